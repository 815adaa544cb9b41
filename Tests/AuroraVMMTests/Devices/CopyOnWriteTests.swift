import Foundation
import Linux
import Testing

@testable import AuroraVMM

/// Whole-buffer access for tests.
extension BlockBackend {
    func bytes(at offset: Int64, count: Int) throws -> [UInt8] {
        var result = [UInt8](repeating: 0xee, count: count)
        try result.withUnsafeMutableBytes { buffer in
            var vectors = IOVectors()
            // In two pieces, so that pieces are tested too.
            guard let base = buffer.baseAddress else { return }
            vectors.append(base: base, count: count / 3)
            vectors.append(base: base + count / 3, count: count - count / 3)
            try read(vectors, at: offset)
        }
        return result
    }

    func write(_ bytes: [UInt8], at offset: Int64) throws {
        var copy = bytes
        try copy.withUnsafeMutableBytes { buffer in
            var vectors = IOVectors()
            guard let base = buffer.baseAddress else { return }
            vectors.append(base: base, count: bytes.count / 2)
            vectors.append(base: base + bytes.count / 2, count: bytes.count - bytes.count / 2)
            try write(vectors, at: offset)
        }
    }
}

@Suite struct CopyOnWriteTests {
    private let directory = TemporaryDirectory()
    private static let diskBytes = 256 * 1024

    private func paths(_ base: [UInt8]) -> (base: String, overlay: String) {
        (directory.file("base", bytes: base), directory.path + "/overlay")
    }

    @Test(arguments: UInt64(1)...8)
    func behavesLikeAPlainDisk(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        // The base ends in the middle of a block, and the disk is larger than it.
        var model = random.bytes(Self.diskBytes - 24 * 512)
        let (base, overlay) = paths(model)
        model += [UInt8](repeating: 0, count: Self.diskBytes - model.count)
        var disk: CopyOnWriteFileBackend? = try .init(basePath: base, overlayPath: overlay, diskBytes: Int64(Self.diskBytes))
        for step in 0..<200 {
            let sectors = 1 + random.below(40)
            let offset = random.below(Self.diskBytes / 512 - sectors) * 512
            let range = offset..<offset + sectors * 512
            switch random.below(6) {
            case 0, 1:
                let bytes = random.bytes(range.count)
                try disk?.write(bytes, at: Int64(offset))
                model.replaceSubrange(range, with: bytes)
            case 2:
                try disk?.writeZeroes(at: Int64(offset), count: Int64(range.count), mayFree: random.below(2) == 0)
                model.replaceSubrange(range, with: repeatElement(0, count: range.count))
            case 3: try disk?.flush()
            case 4:
                disk = nil
                disk = try .init(basePath: base, overlayPath: overlay)
            default: break
            }
            #expect(try disk?.bytes(at: Int64(offset), count: range.count) == Array(model[range]), "seed \(seed), step \(step)")
        }
        #expect(try disk?.bytes(at: 0, count: Self.diskBytes) == model, "seed \(seed)")
    }

    /// A copy of the file taken while the program runs is what a power cut leaves at best; at worst later blocks are lost.
    @Test(arguments: UInt64(1)...8)
    func whatWasFlushedSurvivesAPowerCut(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let (base, overlay) = paths(random.bytes(Self.diskBytes))
        let disk = try CopyOnWriteFileBackend(basePath: base, overlayPath: overlay)
        for _ in 0..<30 { try disk.write(random.bytes(1024), at: Int64(random.below(Self.diskBytes / 512 - 2) * 512)) }
        try disk.flush()
        let flushed = try disk.bytes(at: 0, count: Self.diskBytes)
        for _ in 0..<30 { try disk.write(random.bytes(1024), at: Int64(random.below(Self.diskBytes / 512 - 2) * 512)) }
        let latest = try disk.bytes(at: 0, count: Self.diskBytes)

        let copy = directory.path + "/after"
        try FileManager.default.copyItem(atPath: overlay, toPath: copy)
        let found = try CopyOnWriteFileBackend(basePath: base, overlayPath: copy).bytes(at: 0, count: Self.diskBytes)
        for sector in stride(from: 0, to: Self.diskBytes, by: 512) {
            let range = sector..<sector + 512
            let isAnswer = found[range] == flushed[range] || found[range] == latest[range]
            #expect(isAnswer, "seed \(seed): sector \(sector / 512) is neither old nor new")
        }
    }

    @Test func theBaseIsNotTouched() throws {
        let bytes = [UInt8](repeating: 3, count: Self.diskBytes)
        let (base, overlay) = paths(bytes)
        let disk = try CopyOnWriteFileBackend(basePath: base, overlayPath: overlay)
        try disk.write([UInt8](repeating: 4, count: 8192), at: 512)
        try disk.flush()
        #expect(try Array(Data(contentsOf: URL(fileURLWithPath: base))) == bytes)
    }

    @Test func theHeaderIsAsDocumented() {
        let header = OverlayLayout(diskBytes: 1 << 30, baseFingerprint: 0x1122_3344_5566_7788).encoded
        #expect(Array(header[..<8]) == Array("AURACOW1".utf8))
        #expect(Array(header[8..<16]) == [1, 0, 0, 0, 0, 16, 0, 0])
        #expect(Array(header[16..<32]) == [0, 0, 0, 0x40, 0, 0, 0, 0, 0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11])
        #expect(Array(header[32..<48]) == [0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 0])
        #expect(Array(header[4088...]) == [0xb5, 0x63, 0x93, 0xaa, 0x0e, 0xe3, 0xd6, 0x25])
    }

    @Test func damagedOverlaysAreRefusedWithTheReason() throws {
        let (base, overlay) = paths([UInt8](repeating: 3, count: Self.diskBytes))
        _ = try CopyOnWriteFileBackend(basePath: base, overlayPath: overlay)
        let good = try Array(Data(contentsOf: URL(fileURLWithPath: overlay)))
        func refusal(_ bytes: [UInt8]) -> String {
            let path = directory.file("bad", bytes: bytes)
            do throws(DiskError) {
                _ = try CopyOnWriteFileBackend(basePath: base, overlayPath: path)
                return "accepted"
            } catch { return "\(error)" }
        }
        #expect(refusal([]).contains("not a copy-on-write overlay"))
        #expect(refusal([UInt8](repeating: 0, count: 8192)).contains("not a copy-on-write overlay"))
        #expect(refusal(Array(good[..<5000])).contains("cut off"))
        for position in [8, 12, 16, 24, 40, 100, 4090] {
            var bytes = good
            bytes[position] ^= 1
            #expect(refusal(bytes).contains("damaged"), "byte \(position)")
        }
    }

    @Test(arguments: 0..<50)
    func randomHeadersNeverCrash(seed: Int) throws {
        var random = SeededGenerator(seed: UInt64(seed))
        var bytes = OverlayLayout(diskBytes: 1 << 20, baseFingerprint: 5).encoded
        for _ in 0..<4 { bytes[8 + random.below(48)] = UInt8(truncatingIfNeeded: random.next()) }
        // With a right fingerprint, so that the fields themselves are judged.
        let hash = OverlayLayout.fingerprint(Array(bytes.dropLast(8)))
        withUnsafeBytes(of: hash.littleEndian) { bytes.replaceSubrange(4088..<4096, with: $0) }
        if let layout = try? OverlayLayout(decoding: bytes) {
            #expect(layout.diskBytes > 0 && layout.diskBytes <= OverlayLayout.diskBytesMax)
        }
    }

    @Test func anotherBaseIsRefused() throws {
        let (base, overlay) = paths([UInt8](repeating: 3, count: Self.diskBytes))
        _ = try CopyOnWriteFileBackend(basePath: base, overlayPath: overlay)
        let other = directory.file("other", bytes: [UInt8](repeating: 4, count: Self.diskBytes))
        #expect(throws: DiskError.badOverlay(path: overlay, reason: "it was made over another image than \(other)")) {
            try CopyOnWriteFileBackend(basePath: other, overlayPath: overlay)
        }
    }

    @Test func disksAreNotSharedByWriters() throws {
        let (base, overlay) = paths([UInt8](repeating: 3, count: Self.diskBytes))
        let first = try CopyOnWriteFileBackend(basePath: base, overlayPath: overlay)
        #expect(throws: DiskError.inUse(path: overlay)) { try CopyOnWriteFileBackend(basePath: base, overlayPath: overlay) }
        let second = try CopyOnWriteFileBackend(basePath: base, overlayPath: overlay + "2")
        #expect(throws: DiskError.inUse(path: base)) { try RawFileBackend(path: base, isReadOnly: false) }
        _ = try RawFileBackend(path: base, isReadOnly: true)
        #expect(first.byteCount == second.byteCount)
    }

    @Test func missingFilesAreNamed() {
        let path = directory.path + "/nowhere"
        #expect(throws: DiskError.system(SystemError("open", path, errno: .noEntry))) { try RawFileBackend(path: path, isReadOnly: true) }
    }
}
