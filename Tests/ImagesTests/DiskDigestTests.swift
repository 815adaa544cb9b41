import CLinux
import Testing

@testable import Images

/// The digest of a disk is of its data, however it is stored.
@Suite struct DiskDigestTests {
    private static let block = 4096

    /// What is hashed, put together in the simplest way.
    private func expected(_ fixture: Fixture, _ contents: [UInt8]) throws -> String {
        func number(_ value: Int) -> [UInt8] { (0..<8).map { UInt8(truncatingIfNeeded: value >> ($0 * 8)) } }
        var bytes = Array("aurora-disk-1\n".utf8) + number(contents.count)
        for start in stride(from: 0, to: contents.count, by: Self.block) {
            let block = contents[start..<min(start + Self.block, contents.count)]
            guard block.contains(where: { $0 != 0 }) else { continue }
            bytes += number(start / Self.block) + block + [UInt8](repeating: 0, count: Self.block - block.count)
        }
        try Files.write(bytes, to: "\(fixture.path)/hashed")
        let (output, log) = ("\(fixture.path)/hash", "\(fixture.path)/hash.log")
        let end = try ChildProcess(command: ["sha256sum"], input: "\(fixture.path)/hashed", output: output, log: log).run()
        try #require(end == .exited(0))
        return String(decoding: try Files.read(output, lengthMax: 1000).prefix(64), as: UTF8.self)
    }

    /// Contents with zeros and data in runs of some blocks, some of them across the pieces that are read at a time.
    private func contents() -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: (5 << 20) + 1234)
        for (start, count) in [(0, 10), (4095, 2), (300 * 4096, 4096), ((1 << 20) - 5, 10), (3 << 20, 1 << 20), ((5 << 20) + 1233, 1)] {
            for index in start..<(start + count) { bytes[index] = UInt8(truncatingIfNeeded: index * 7 + 1) }
        }
        return bytes
    }

    private func image(_ fixture: Fixture, _ file: String) throws -> Image {
        try fixture.images("cp --sparse=never '\(file)' \"$1/root.ext4\"\n: > \"$1/packages\"\n").build(
            try ImageName("a"), packages: [], refresh: true, progress: silent)
    }

    @Test func itIsOfTheDataAlone() throws {
        let fixture = try Fixture()
        var contents = contents()
        let file = "\(fixture.path)/contents"
        try Files.write(contents, to: file)
        let wanted = try expected(fixture, contents)
        let dense = try image(fixture, file)
        #expect(dense.manifest.rootSHA256 == wanted && dense.manifest.rootDigestForm == "aurora-disk-1")
        let sparse = try fixture.images("cp --sparse=always '\(file)' \"$1/root.ext4\"\n: > \"$1/packages\"\n").build(
            try ImageName("b"), packages: [], progress: silent)
        #expect(sparse.diskBytes < dense.diskBytes && sparse.manifest.rootSHA256 == wanted)
        // A byte more, a byte elsewhere, a longer disk: another digest.
        contents[2 << 20] = 1
        try Files.write(contents, to: file)
        let changed = try image(fixture, file).manifest.rootSHA256
        let otherwise = try expected(fixture, contents)
        #expect(changed == otherwise && changed != wanted)
        try Files.write(contents + [UInt8](repeating: 0, count: 4096), to: file)
        #expect(try image(fixture, file).manifest.rootSHA256 != changed)
    }

    @Test func aDiskOfHolesHasOne() throws {
        let fixture = try Fixture()
        let image = try fixture.images().build(try ImageName("a"), packages: [], progress: silent)
        let wanted = try expected(fixture, [UInt8](repeating: 0, count: 8192))
        #expect(image.manifest.rootSHA256 == wanted)
    }

    /// Images of older versions have the SHA-256 of the whole file, and keep it.
    @Test func olderManifestsAreRead() throws {
        let fixture = try Fixture()
        let image = try fixture.images().ensureBase(progress: silent)
        let path = "\(image.path)/manifest.json"
        let text = String(decoding: try Files.read(path, lengthMax: Manifest.lengthMax), as: UTF8.self)
        let lines = text.split(separator: "\n").filter { !$0.contains("rootDigestForm") }.joined(separator: "\n")
        try #require(lines.count < text.count)
        try Files.write(Array(lines.utf8), to: path)
        let opened = try fixture.images().open(.base).manifest
        #expect(opened.rootDigestForm == nil && opened.rootSHA256 == image.manifest.rootSHA256)
        #expect(try fixture.images().ensureBase(progress: silent).manifest == opened)
    }
}
