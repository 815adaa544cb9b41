import Testing

@testable import Images

/// A small generator with a seed that a failing test can print.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }

    /// SplitMix64.
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ (value >> 30)) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ (value >> 27)) &* 0x94d0_49bb_1331_11eb
        return value ^ (value >> 31)
    }
}

/// Builds the parts of a bzImage that the parser looks at.
struct BootImageBytes {
    var bytes: [UInt8]

    /// One set-up sector, the payload 16 bytes into the protected-mode part.
    init(magic: [UInt8] = BootImage.Compression.zstd.magic, payloadLength: Int = 64, unpackedSize: UInt32 = 50 << 20) {
        bytes = [UInt8](repeating: 0, count: 1024 + 16 + payloadLength + 100)
        bytes[0x1f1] = 1
        set(0xaa55, at: 0x1fe, width: 2)
        set(0x5372_6448, at: 0x202, width: 4)
        set(0x020f, at: 0x206, width: 2)
        set(16, at: 0x248, width: 4)
        set(UInt64(payloadLength), at: 0x24c, width: 4)
        bytes.replaceSubrange(1040..<1040 + magic.count, with: magic)
        set(UInt64(unpackedSize), at: 1040 + payloadLength - 4, width: 4)
    }

    mutating func set(_ value: UInt64, at offset: Int, width: Int) {
        for index in 0..<width { bytes[offset + index] = UInt8(truncatingIfNeeded: value >> (UInt64(index) * 8)) }
    }
}

@Suite struct BootImageTests {
    @Test(arguments: BootImage.Compression.allCases)
    func findsThePayload(compression: BootImage.Compression) throws {
        let image = try BootImage(parsing: BootImageBytes(magic: compression.magic).bytes)
        #expect(image.compression == compression)
        #expect(image.unpackedSize == 50 << 20)
        #expect(image.payload == 1040..<(compression == .gzip ? 1104 : 1100))
    }

    @Test func zeroSetupSectorsMeanFour() {
        var image = BootImageBytes()
        image.bytes[0x1f1] = 0
        // The payload would now be behind the end.
        #expect(throws: BootImageError.truncated("the compressed kernel's end")) { try BootImage(parsing: image.bytes) }
        image.bytes.insert(contentsOf: [UInt8](repeating: 0, count: 3 * 512), at: 1024)
        #expect(throws: Never.self) { try BootImage(parsing: image.bytes) }
    }

    @Test func otherFilesAreRefused() {
        #expect(throws: BootImageError.truncated("the boot header")) { try BootImage(parsing: []) }
        #expect(throws: BootImageError.truncated("the boot header")) { try BootImage(parsing: [UInt8](repeating: 0, count: 0x203)) }
        #expect(throws: BootImageError.notABootImage) { try BootImage(parsing: [UInt8](repeating: 0, count: 4096)) }
        let elf: [UInt8] = [0x7f, 0x45, 0x4c, 0x46] + [UInt8](repeating: 1, count: 4096)
        #expect(throws: BootImageError.notABootImage) { try BootImage(parsing: elf) }
    }

    @Test func oldProtocolsAreRefused() {
        var image = BootImageBytes()
        image.set(0x0207, at: 0x206, width: 2)
        #expect(throws: BootImageError.oldProtocol(0x207)) { try BootImage(parsing: image.bytes) }
    }

    @Test func unknownCompressionIsNamed() {
        let image = BootImageBytes(magic: [1, 2, 3, 4, 5, 6])
        #expect(throws: BootImageError.unknownCompression([1, 2, 3, 4, 5, 6])) { try BootImage(parsing: image.bytes) }
    }

    @Test(arguments: [0, 1, 0xffff_ffff] as [UInt32])
    func implausibleSizesAreRefused(size: UInt32) {
        #expect(throws: BootImageError.implausibleSize(size)) { try BootImage(parsing: BootImageBytes(unpackedSize: size).bytes) }
    }

    @Test(arguments: [(0x248, 0xffff_ffff), (0x24c, 0xffff_ffff), (0x24c, 0), (0x24c, 4), (0x248, 0xffff)] as [(Int, UInt64)])
    func wildOffsetsAreRefused(offset: Int, value: UInt64) {
        var image = BootImageBytes()
        image.set(value, at: offset, width: 4)
        #expect(throws: BootImageError.truncated("the compressed kernel's end")) { try BootImage(parsing: image.bytes) }
    }

    /// Every proper prefix that cuts header or payload is refused; none traps.
    @Test func everyTruncationIsRefused() {
        let whole = BootImageBytes().bytes
        for length in 0..<1104 {
            #expect(throws: BootImageError.self, "length \(length)") { try BootImage(parsing: Array(whole[..<length])) }
        }
    }

    /// Random damage either leaves a payload inside the file or is a typed error.
    @Test func damageNeverEscapes() {
        let seed = UInt64.random(in: 0...UInt64.max)
        var generator = SeededGenerator(seed: seed)
        for step in 0..<20_000 {
            var image = BootImageBytes(payloadLength: Int.random(in: 5...200, using: &generator))
            for _ in 0..<Int.random(in: 1...6, using: &generator) {
                let inHeader = Bool.random(using: &generator)
                let range = inHeader ? 0x1f0..<0x250 : 0..<image.bytes.count
                image.bytes[Int.random(in: range, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
            }
            if Int.random(in: 0..<4, using: &generator) == 0 {
                image.bytes.removeLast(Int.random(in: 0..<image.bytes.count, using: &generator))
            }
            guard let parsed = try? BootImage(parsing: image.bytes) else { continue }
            #expect(parsed.payload.upperBound <= image.bytes.count && !parsed.payload.isEmpty, "seed=\(seed) step=\(step)")
            #expect(BootImage.unpackedSizes.contains(parsed.unpackedSize), "seed=\(seed) step=\(step)")
        }
    }
}
