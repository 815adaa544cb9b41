import Foundation
import Groups
import Linux
import Synchronization
import Testing

@Suite struct LogTests {
    let home: TemporaryDirectory
    var path: String { "\(home.path)/output.log" }

    init() throws { home = try TemporaryDirectory() }

    @Test func bytesComeBackAsTheyWere() throws {
        let seed = UInt64.random(in: 0 ... .max)
        var generator = SeededGenerator(seed: seed)
        var writer = try LogWriter(path: path)
        var reader = LogReader(path: path)
        var written: [LogRecord.Stream: [UInt8]] = [:]
        var read: [LogRecord.Stream: [UInt8]] = [:]
        for _ in 0..<200 {
            let stream: LogRecord.Stream = Bool.random(using: &generator) ? .stdout : .stderr
            let bytes = (0..<Int.random(in: 0..<40000, using: &generator)).map { _ in UInt8.random(in: 0..<64, using: &generator) }
            writer.append(bytes, stream: stream)
            written[stream, default: []] += bytes
            for record in try reader.next() { read[record.stream, default: []] += record.output }
        }
        while true {
            let records = try reader.next()
            if records.isEmpty { break }
            for record in records { read[record.stream, default: []] += record.output }
        }
        #expect(read == written, "seed \(seed)")
    }

    @Test func rotationBoundsTheFiles() throws {
        var writer = try LogWriter(path: path, fileBytesMax: 10000)
        for number in 0..<1000 { writer.append(Array("line \(number)\n".utf8), stream: .stdout) }
        for file in [path, "\(path).1"] {
            #expect(try FileManager.default.attributesOfItem(atPath: file)[.size] as? Int ?? .max <= 10000)
        }
        var reader = LogReader(path: path)
        var last: [UInt8] = []
        while let record = try reader.next().last { last = record.content }
        #expect(String(decoding: last, as: UTF8.self) == "line 999")
    }

    /// Reads what there is, and checks that each record is a line as it was written.
    private func numbers(_ reader: inout LogReader) throws -> [Int] {
        var all: [Int] = []
        while true {
            let records = try reader.next()
            if records.isEmpty { return all }
            for record in records {
                let text = String(decoding: record.content, as: UTF8.self)
                all.append(try #require(Int(text.dropFirst("line ".count)), "\(text)"))
            }
        }
    }

    private func rotations() -> Int {
        (try? String(contentsOfFile: "\(path).rotations", encoding: .utf8)).flatMap { Int($0) } ?? 0
    }

    /// A reader that stands in a file reads on over any number of rotations, and says how many files it has missed.
    @Test(arguments: 1...6) func followerKnowsWhatItMissed(_ rotationsMeanwhile: Int) throws {
        var writer = try LogWriter(path: path, fileBytesMax: 2000)
        var reader = LogReader(path: path)
        var written = 0
        func write() {
            writer.append(Array("line \(written)\n".utf8), stream: .stdout)
            written += 1
        }
        while rotations() < 2 { write() }
        let before = try numbers(&reader)
        #expect(reader.lostFiles == 0)
        #expect(before.last == written - 1)
        while rotations() < 2 + rotationsMeanwhile { write() }
        let after = try numbers(&reader)
        #expect(after.last == written - 1)
        #expect(reader.lostFiles == UInt64(max(0, rotationsMeanwhile - 2)))
        let isWhole = after.first == (before.last ?? 0) + 1 && zip(after, after.dropFirst()).allSatisfy { $0 + 1 == $1 }
        #expect(isWhole == (reader.lostFiles == 0))
        #expect(zip(after, after.dropFirst()).allSatisfy { $0 < $1 })
    }

    /// Written and read at the same time, with a rotation every few lines: nothing is joined, doubled, or missing without a word.
    @Test func fastRotationLosesNothingSilently() throws {
        let path = path
        let count = 60_000
        let isDone = Atomic<Bool>(false)
        try DetachedThread.start("writer") {
            defer { isDone.store(true, ordering: .releasing) }
            guard var writer = try? LogWriter(path: path, fileBytesMax: 20_000) else { return }
            for number in 0..<count { writer.append(Array("line \(number)\n".utf8), stream: .stdout) }
        }
        var reader = LogReader(path: path)
        var read: [Int] = []
        while true {
            let wasDone = isDone.load(ordering: .acquiring)
            read += try numbers(&reader)
            if wasDone { break }
        }
        #expect(read.last == count - 1)
        #expect(zip(read, read.dropFirst()).allSatisfy { $0 < $1 })
        let gaps = zip(read, read.dropFirst()).count { $0 + 1 != $1 } + (read.first == 0 ? 0 : 1)
        // A reader that begins late finds the beginning gone, which is what a bounded log means.
        #expect(gaps <= Int(reader.lostFiles) + 1)
        #expect(read.count == count || reader.lostFiles > 0 || read.first != 0)
    }

    @Test func halfARecordIsNotJoinedToTheNext() throws {
        let whole = LogRecord(time: "t", stream: .stdout, isWhole: true, content: Array("whole".utf8))
        try Data(whole.line + Array("t stdout F hal".utf8)).write(to: URL(filePath: path))
        var writer = try LogWriter(path: path)
        writer.append(Array("next\n".utf8), stream: .stdout)
        var reader = LogReader(path: path)
        #expect(try reader.next().map { String(decoding: $0.content, as: UTF8.self) } == ["whole", "hal", "next"])
    }

    @Test func timesAreAtTheBeginOfLinesOnly() {
        func record(_ time: String, _ text: String, _ isWhole: Bool, _ stream: LogRecord.Stream = .stdout) -> LogRecord {
            LogRecord(time: time, stream: stream, isWhole: isWhole, content: Array(text.utf8))
        }
        var text = LogText(showsTimes: true)
        var shown: [LogRecord.Stream: String] = [:]
        for records in [[record("1", "a", false)], [record("2", "x", true, .stderr), record("3", "b", true), record("4", "c", true)]] {
            for (stream, bytes) in text.text(records) { shown[stream, default: ""] += String(decoding: bytes, as: UTF8.self) }
        }
        #expect(shown == [.stdout: "1 ab\n4 c\n", .stderr: "2 x\n"])
    }

    @Test(arguments: ["", "x", "t stdout F", "t stdin F x", "t stdout Q x"])
    func strangeLinesAreSkipped(_ line: String) { #expect(LogRecord(line: Array(line.utf8)) == nil) }
}
