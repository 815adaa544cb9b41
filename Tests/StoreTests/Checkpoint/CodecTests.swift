import StoreSimulation
import Testing

@testable import Store

/// The bytes on the disk: what they are, and that others are refused.
@Suite struct CodecTests {
    private let store = StoreIdentity(low: 0x1111, high: 0x2222)
    private let stream = StreamIdentity(low: 0x3333, high: 0x4444)

    private func tree(_ entries: UInt64, level: Int) -> TreeReference {
        let location = PageLocation(offset: 0x10000, length: 64) ?? .zero
        return TreeReference(
            root: DataReference(location: location, checksum: Checksum(low: 7, high: 8)), entryCount: entries, height: 1, level: level)
    }

    private var block: CommitBlock {
        CommitBlock(
            stream: stream, sequence: 9, number: 10, parent: 8, parentStream: stream, time: 1234, offset: 0x20000, next: 0x30000,
            previous: Checksum(low: 5, high: 6), durableSequence: 7, flags: CommitBlock.settledFlag, pageCount: 3, newPageCount: 2,
            writtenBytes: 12288, stateBytes: 100, state: tree(1, level: 0), delta: tree(2, level: 0), name: "before",
            statistics: [1, 2, 3],
            chain: [tree(2, level: 0), tree(1000, level: TreeReference.baseLevel)])
    }

    private func expectation(_ block: CommitBlock) -> CommitBlock.Expectation {
        CommitBlock.Expectation(
            store: store, stream: stream, sequence: block.sequence, offset: block.offset, previous: block.previous, checksum: nil)
    }

    private func decode(_ bytes: [UInt8], _ wanted: CommitBlock.Expectation) throws -> CommitBlock {
        let padded = bytes + [UInt8](repeating: 0, count: StoreFormat.blockBytes - bytes.count)
        return try padded.withUnsafeBytes { buffer in
            Result { () throws(StoreError) in try CommitBlock.decode(buffer, expecting: wanted).0 }
        }.get()
    }

    @Test func commitBlocksComeBack() throws {
        #expect(try decode(block.encode(store: store).bytes, expectation(block)) == block)
        var fullest = block
        fullest.name = String(repeating: "n", count: 128)
        fullest.statistics = [UInt8](repeating: 1, count: 120)
        fullest.chain = [TreeReference](repeating: tree(5, level: 1), count: CommitBlock.chainMax)
        let bytes = fullest.encode(store: store).bytes
        #expect(bytes.count == CommitBlock.headBytesMax)
        #expect(try decode(bytes, expectation(fullest)) == fullest)
    }

    @Test func commitBlocksOfOtherPlacesAreRefused() throws {
        let bytes = block.encode(store: store).bytes
        var others = [CommitBlock.Expectation](repeating: expectation(block), count: 6)
        others[0].store = StoreIdentity(low: 1, high: 2)
        others[1].stream = StreamIdentity(low: 1, high: 2)
        others[2].sequence += 1
        others[3].offset += 4096
        others[4].previous = Checksum(low: 0, high: 0)
        others[5].checksum = Checksum(low: 0, high: 0)
        for other in others { #expect(throws: StoreError.self) { try decode(bytes, other) } }
    }

    @Test func everyChangedBitOfACommitBlockIsFound() throws {
        let bytes = block.encode(store: store).bytes
        for bit in 0..<bytes.count * 8 {
            var changed = bytes
            changed[bit / 8] ^= 1 << UInt8(bit % 8)
            #expect(throws: StoreError.self) { try decode(changed, expectation(block)) }
        }
    }

    /// The format is fixed: these bytes must never change without a new version.
    @Test func goldenBytes() {
        #expect(hex(block.encode(store: store).bytes) == Self.goldenCommit)
        var anchor = Anchor(stream: stream, created: 99, next: 0x5000, labels: [0xAB])
        anchor.lastNumber = 12
        anchor.lastSequence = 11
        anchor.history = tree(3, level: 0)
        anchor.entryCount = 42
        #expect(hex(anchor.encode()) == Self.goldenAnchor)
        var writer = ByteWriter()
        CheckpointEntry(block, checksum: Checksum(low: 1, high: 2)).encode(to: &writer)
        #expect(hex(writer.bytes) == Self.goldenEntry)
    }

    @Test func anchorsComeBackAndForgedOnesAreRefused() throws {
        var anchor = Anchor(stream: stream, created: 99, next: 0x5000, labels: Array(1...100))
        anchor.names = tree(3, level: 0)
        func decode(_ bytes: [UInt8], stream: StreamIdentity) throws -> Anchor {
            try bytes.withUnsafeBytes { buffer in
                Result { () throws(StoreError) in try Anchor(buffer, stream: stream, place: 4096) }
            }.get()
        }
        let bytes = anchor.encode()
        #expect(try decode(bytes, stream: stream) == anchor)
        #expect(throws: StoreError.self) { try decode(bytes, stream: StreamIdentity(low: 0, high: 0)) }
        for count in 0..<bytes.count { #expect(throws: StoreError.self) { try decode(Array(bytes.prefix(count)), stream: stream) } }
        var newer = bytes
        newer[8] = 2
        let error = #expect(throws: StoreError.self) { try decode(newer, stream: stream) }
        #expect(error?.description.contains("use a newer one") == true)
    }

    /// No bytes at all make a decoder trap.
    @Test(arguments: 1...5)
    func anyBytesAreRefusedOrTaken(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        let valid = block.encode(store: store).bytes
        for _ in 0..<2000 {
            var bytes = valid
            for _ in 0..<Int.random(in: 1...20, using: &generator) {
                bytes[.random(in: 0..<bytes.count, using: &generator)] = .random(in: 0...255, using: &generator)
            }
            bytes.withUnsafeBytes { buffer in
                var reader = ByteReader(buffer, what: "anything", place: nil)
                _ = try? TreeReference(from: &reader)
                _ = try? CheckpointEntry(from: &reader)
                _ = try? Anchor(buffer, stream: stream, place: 0)
                _ = try? TreeNode(buffer, place: 0, lower: nil, upper: nil)
                _ = try? TreeNode(UnsafeRawBufferPointer(rebasing: buffer[..<320]), place: 0, lower: nil, upper: nil)
            }
        }
    }

    private func hex(_ bytes: [UInt8]) -> String {
        // Runs of zeros are counted, so that a person can read it.
        var text = ""
        var zeros = 0
        for byte in bytes + [1] {
            if byte == 0 {
                zeros += 1
                continue
            }
            if zeros > 3 { text += "(\(zeros))" } else { text += String(repeating: "00", count: zeros) }
            zeros = 0
            text += (byte < 16 ? "0" : "") + String(byte, radix: 16)
        }
        return String(text.dropLast(2))
    }

    private static let goldenCommit =
        "4155524f434d54310100990101000000707aeebd4d6aaa1f29cce9c83479026b05(7)06(7)3333(6)4444(6)09(7)0a(7)08(7)3333(6)"
        + "4444(6)d204(8)02(7)03(5)07(7)03(7)02(8)30(6)64(7)40000004(4)07(7)08(7)01(7)01(7)40000004(4)07(7)08(7)02(7)01(7"
        + ")0600030002(67)6265666f726501020340000004(4)07(7)08(7)02(7)01(7)40000004(4)07(7)08(7)e803(6)013f(6)"
    private static let goldenAnchor =
        "4155524f414e4331010001(5)3333(6)4444(6)63(31)0b(7)0c(32)50(6)2a(7)40000004(4)07(7)08(7)03(7)01(103)ab"
    private static let goldenEntry = "0a(7)09(7)d204(8)02(5)01(7)02(7)0300000002(4)30(4)0300010203(125)"
}
