import Foundation
import Testing

@testable import Functions

/// A function's code is a ZIP archive by its structure, and nothing of it is unpacked on the host.
@Suite(.timeLimit(.minutes(5))) struct ZipArchiveTests {
    private func refusal(_ bytes: [UInt8]) -> String? {
        do throws(ZipArchive.Refusal) {
            _ = try ZipArchive(bytes)
            return nil
        } catch { return error.description }
    }

    private func shell(_ line: String, in directory: String, input: [UInt8] = []) throws -> Int32 {
        let process = Process()
        process.executableURL = URL(filePath: "/bin/sh")
        process.arguments = ["-c", line]
        process.currentDirectoryURL = URL(filePath: directory)
        let file = "\(directory).input"
        try Data(input).write(to: URL(filePath: file))
        defer { try? FileManager.default.removeItem(atPath: file) }
        process.standardInput = try FileHandle(forReadingFrom: URL(filePath: file))
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        return process.terminationStatus
    }

    private func scratch() throws -> String {
        let path = FileManager.default.temporaryDirectory.appending(path: "aurora-zip-\(UUID().uuidString)").path
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        return path
    }

    private static let long = String(repeating: "long/", count: 40) + "name"

    private static func entries(isPacked: Bool = false, hasDescriptor: Bool = false, isLong: Bool = false) -> [ZipMaker.Entry] {
        let change = { (entry: inout ZipMaker.Entry) in
            (entry.isPacked, entry.hasDescriptor, entry.isLong) = (isPacked, hasDescriptor, isLong)
        }
        return [
            .init("./", mode: 0o040755), .init("lib/", mode: 0o040750), .init("app.py", "x = 1\n", change),
            .init("bootstrap", String(repeating: "y", count: 1024), mode: 0o100755, change), .init("empty", "", change),
            .init(long, "deep", mode: 0o100600, change), .init("lib/out", "/usr/bin/python3", mode: 0o120777, change),
            .init("lib/up", "../../../etc/hosts", mode: 0o120777, change),
        ]
    }

    /// What the stream of an archive unpacks to, by the programs that a guest has.
    @Test(arguments: [(false, false, false), (true, false, false), (false, true, false), (true, true, true), (false, false, true)])
    func unpacksWholly(_ isPacked: Bool, _ hasDescriptor: Bool, _ isLong: Bool) throws {
        let bytes = ZipMaker.archive(
            Self.entries(isPacked: isPacked, hasDescriptor: hasDescriptor, isLong: isLong), isLong: isLong,
            comment: "PK\u{5}\u{6} a comment")
        let archive = try ZipArchive(bytes)
        #expect(archive.entries.count == 7)
        let stream = CodeStream(archive)
        #expect(String(decoding: stream.links, as: UTF8.self) == "lib/out\nlib/up\n")
        let directory = try scratch()
        defer { try? FileManager.default.removeItem(atPath: directory) }
        #expect(try shell("gzip -dc | tee size | tar -xf -", in: directory, input: stream.bytes) == 0)
        func text(_ name: String) throws -> String { try String(contentsOfFile: "\(directory)/\(name)", encoding: .utf8) }
        #expect(try Data(contentsOf: URL(filePath: "\(directory)/size")).count == stream.unpackedBytes)
        #expect(try text("app.py") == "x = 1\n" && text("empty").isEmpty && text(Self.long) == "deep")
        #expect(try text("bootstrap").utf8.count == 1024 && text("lib/out") == "/usr/bin/python3" && text("lib/up").hasSuffix("hosts"))
        func mode(_ name: String) throws -> Int? {
            try FileManager.default.attributesOfItem(atPath: "\(directory)/\(name)")[.posixPermissions] as? Int
        }
        // Made with 600 and 750: the function's user is not the owner, and may do what that may but write.
        #expect(try mode("bootstrap") == 0o755 && mode(Self.long) == 0o644 && mode("lib") == 0o755)
        let times = try FileManager.default.attributesOfItem(atPath: "\(directory)/app.py")[.modificationDate] as? Date
        #expect(times == ISO8601DateFormatter().date(from: "2025-01-01T12:00:00Z"))
    }

    /// Contents that are not what the directory says are found where they are unpacked.
    @Test func wrongLengthsAreFound() throws {
        var bytes = ZipMaker.archive([.init("a", String(repeating: "a", count: 5000)) { $0.isPacked = true }])
        bytes[5000] ^= 1
        let directory = try scratch()
        defer { try? FileManager.default.removeItem(atPath: directory) }
        #expect(try shell("gzip -dc >/dev/null", in: directory, input: CodeStream(try ZipArchive(bytes)).bytes) != 0)
        let short = ZipMaker.archive([
            .init("a", String(repeating: "a", count: 5000)) {
                $0.isPacked = true
                $0.claimedBytes = 100
            }
        ])
        #expect(try shell("gzip -dc >/dev/null", in: directory, input: CodeStream(try ZipArchive(short)).bytes) != 0)
    }

    @Test(arguments: [
        ("/etc/passwd", "leads out"), ("../x", "leads out"), ("a/../../x", "leads out"), ("a/..", "leads out"), ("", "is no path"),
        ("a\u{0}b", "is no path"), (String(repeating: "a", count: 4097), "is no path"),
    ])
    func noPathLeadsOut(_ path: String, _ reason: String) throws {
        let said = try #require(refusal(ZipMaker.archive([.init(path, "x")])))
        #expect(said.contains(reason), "\(said)")
    }

    @Test func whatIsNoCodeIsRefused() throws {
        let plain = ZipMaker.Entry("a", "x")
        func refused(_ words: String, _ change: (inout ZipMaker.Entry) -> Void) {
            var entry = plain
            change(&entry)
            #expect(
                refusal(ZipMaker.archive([entry]))?.contains(words) == true, "\(words): \(refusal(ZipMaker.archive([entry])) ?? "taken")")
        }
        refused("is encrypted") { $0.flags = 1 }
        refused("neither deflate nor none") { $0.method = 12 }
        refused("has two lengths") { $0.claimedBytes = 2 }
        refused("not where the directory says") { $0.localName = "b" }
        refused("neither a file nor a directory nor a link") { $0.mode = 0o060644 }
        refused("none that Linux could have") { $0 = .init("a\nb", "x", mode: 0o120777) }
        refused("none that Linux could have") { $0 = .init("a", "", mode: 0o120777) }
        #expect(refusal(ZipMaker.archive([])) != nil)
        #expect(refusal(ZipMaker.archive([.init("./", mode: 0o040755)])) != nil)
        let big = { (entry: inout ZipMaker.Entry) in (entry.isPacked, entry.claimedBytes) = (true, 130 << 20) }
        #expect(refusal(ZipMaker.archive([.init("a", "x", big), .init("b", "x", big)]))?.contains("more than 250 MiB") == true)
        let huge = { (entry: inout ZipMaker.Entry) in (entry.isPacked, entry.isLong, entry.claimedBytes) = (true, true, .max) }
        #expect(refusal(ZipMaker.archive([.init("a", "x", huge)])) != nil)
    }

    @Test func noPartOfAnArchiveIsTaken() throws {
        let whole = ZipMaker.archive(Self.entries(), comment: "the end")
        #expect(refusal(whole) == nil)
        for count in 0..<whole.count { #expect(refusal(Array(whole[..<count])) != nil, "\(count)") }
        for count in 1..<60 { #expect(refusal(Array(whole[count...])) != nil, "\(count)") }
        for before in [[0], Array("PK".utf8), Array("PK\u{3}\u{4}".utf8), Array("#!/bin/sh\n".utf8)] {
            #expect(refusal(before + whole) != nil)
        }
        #expect(refusal(whole + [0]) != nil)
    }

    @Test(arguments: 0..<4) func damageIsRefusedOrStaysInside(_ round: Int) throws {
        let seed = UInt64.random(in: 0 ... .max)
        var generator = Splitmix(state: seed)
        let bytes = ZipMaker.archive(Self.entries(isLong: round % 2 == 1), isLong: round % 2 == 1)
        for _ in 0..<2000 {
            var damaged = bytes
            for _ in 0..<Int.random(in: 1...6, using: &generator) {
                damaged[Int.random(in: 0..<damaged.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            }
            guard let archive = try? ZipArchive(damaged) else { continue }
            for entry in archive.entries {
                #expect(entry.place.upperBound <= damaged.count && entry.path.first != UInt8(ascii: "/"), "seed \(seed)")
            }
            #expect(CodeStream(archive).unpackedBytes <= 2 << 20 + ZipArchive.unpackedBytesMax, "seed \(seed)")
        }
    }

    /// Every format that a library which guesses would take is refused, also under the first letters of a ZIP archive.
    @Test func noOtherFormatIsTaken() throws {
        let directory = try scratch()
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try FileManager.default.createDirectory(atPath: "\(directory)/code", withIntermediateDirectories: true)
        try "x = 1\n".write(toFile: "\(directory)/code/app.py", atomically: true, encoding: .utf8)
        let formats = [
            "pax", "ustar", "gnutar", "v7", "cpio", "odc", "newc", "bin", "ar", "arbsd", "iso9660", "mtree", "7zip", "shar", "warc", "xar",
            "raw",
        ]
        var samples: [(String, [UInt8])] = [
            ("rar", Array("Rar!\u{1a}\u{7}\u{0}".utf8)), ("rar5", Array("Rar!\u{1a}\u{7}\u{1}\u{0}".utf8)),
            ("cab", Array("MSCF\0\0\0\0".utf8)),
            ("lha", [33, 0] + Array("-lh5-".utf8)), ("empty", []),
        ]
        for format in formats {
            for filter in ["", "--gzip", "--xz", "--zstd", "--bzip2", "--lzma", "--compress", "--lz4", "--uuencode", "--b64encode"] {
                let what = format == "raw" ? "code/app.py" : "code"
                guard try shell("bsdtar \(filter) --format \(format) -cf one -C . \(what)", in: directory) == 0 else { continue }
                samples.append(("\(format) \(filter)", [UInt8](try Data(contentsOf: URL(filePath: "\(directory)/one")))))
            }
        }
        try #require(samples.count > 80, "bsdtar, of the package libarchive-tools")
        for (name, bytes) in samples {
            for before in ["", "PK", "PK\n", "PK\u{3}\u{4}", "PK\u{5}\u{6}"] {
                #expect(refusal(Array(before.utf8) + bytes) != nil, "\(name) after \(before.utf8.count) bytes")
            }
        }
    }
}
