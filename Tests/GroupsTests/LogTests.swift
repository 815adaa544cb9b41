import Foundation
import Groups
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

    @Test(arguments: ["", "x", "t stdout F", "t stdin F x", "t stdout Q x"])
    func strangeLinesAreSkipped(_ line: String) { #expect(LogRecord(line: Array(line.utf8)) == nil) }
}
