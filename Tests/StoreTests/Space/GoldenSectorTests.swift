import Testing

@testable import Store

/// The bytes of sectors as they were when the format was fixed: a change of any of them needs a new version.
@Suite struct GoldenSectorTests {
    private let identity = StoreIdentity(low: 0x1122_3344_5566_7788, high: 0x99AA_BBCC_DDEE_FF00)

    /// Hexadecimal digits without the zeros at the end of the payload, and the checksum.
    private func text(_ sector: [UInt8]) -> (payload: String, checksum: String) {
        let end = sector[..<Sector.payloadBytes].lastIndex { $0 != 0 } ?? 0
        return (hex(sector[...end]), hex(sector[Sector.payloadBytes...]))
    }

    private func hex(_ bytes: some Sequence<UInt8>) -> String {
        bytes.map { byte in
            let digits = String(byte, radix: 16)
            return digits.count == 1 ? "0" + digits : digits
        }.joined()
    }

    @Test func superblock() throws {
        let layout = try #require(StoreLayout(slotCount: 4096, segmentCount: 65_000))
        let block = Superblock(identity: identity, createdAt: 0x0102_0304_0506_0708, layout: layout)
        let found = text(block.encode(copy: 1))
        #expect(
            found.payload
                == "4155524f5241535401000100000000000100000001000000887766554433221100ffeeddccbbaa990807060504030201"
                + "001000000004000000100000e8fd"
        )
        #expect(found.checksum == "7cf9a8cafd2ca12ffee37ca727cc9a60")
        let decoded = try block.encode(copy: 1).withUnsafeBytes { try Superblock($0, copy: 1, store: "golden") }
        #expect(decoded == block)
    }

    /// What programs wrote before collections left stamps.
    @Test func superblockOfMinorVersion0() throws {
        let layout = try #require(StoreLayout(slotCount: 4096, segmentCount: 65_000))
        var block = Superblock(identity: identity, createdAt: 0x0102_0304_0506_0708, layout: layout)
        block.minor = 0
        block.readOnlyCompatible = 0
        let found = text(block.encode(copy: 1))
        #expect(
            found.payload
                == "4155524f5241535401000000000000000000000001000000887766554433221100ffeeddccbbaa990807060504030201"
                + "001000000004000000100000e8fd"
        )
        #expect(found.checksum == "d9e534983414c4061e8bbab6a531aac0")
        let decoded = try block.encode(copy: 1).withUnsafeBytes { try Superblock($0, copy: 1, store: "golden") }
        #expect(decoded == block && decoded.ownIdentity == identity)
    }

    @Test func stamp() throws {
        let found = text(CollectionStamp.encode(0x1122_3344_5566_7788, identity: identity))
        #expect(found.payload == "434f4c4c000000008877665544332211")
        let decoded = CollectionStamp.encode(7, identity: identity).withUnsafeBytes { CollectionStamp.decode($0, identity: identity) }
        #expect(decoded == 7)
    }

    @Test func slot() throws {
        let record = SlotRecord(
            stream: StreamIdentity(low: 0xA1, high: 0xB2), name: "redis",
            anchor: DataReference(location: PageLocation(rawValue: 0x1234_5678_9ABC_0400), checksum: Checksum(low: 0xC3, high: 0xD4)))
        let sector = SlotSector(generation: 7, record: record)
        let found = text(sector.encode(identity: identity, at: 131_072))
        #expect(
            found.payload
                == "534c4f54010500000700000000000000a100000000000000b2000000000000000004bc9a78563412c300000000000000"
                + "d4000000000000007265646973"
        )
        #expect(found.checksum == "b6e35bb1243e2faf15d410a66a8b96f8")
        let decoded = try sector.encode(identity: identity, at: 131_072).withUnsafeBytes { bytes in
            try SlotSector.decode(bytes, identity: identity, at: 131_072)
        }
        #expect(decoded == sector)
    }

    @Test func segmentEntry() throws {
        var entry = SegmentEntry()
        entry.generation = 9
        entry.owner = SegmentEntry.Owner(slot: 5, session: 0xE5F6)
        entry.used.set(3..<70, to: true)
        entry.used.set(1023..<1024, to: true)
        let found = text(entry.encode(identity: identity, at: 4_325_376))
        #expect(
            found.payload == "5345474d050000000900000000000000f6e50000000000000000000000000000f8ffffffffffffff3f"
                + String(repeating: "00", count: 118) + "80")
        #expect(found.checksum == "ff9ea9b09330b6b206ebc35aa846abb8")
        let decoded = try entry.encode(identity: identity, at: 4_325_376).withUnsafeBytes { bytes in
            try SegmentEntry(bytes, identity: identity, at: 4_325_376)
        }
        #expect(decoded == entry)
    }

    @Test func aSectorOfAnotherPlaceOrStoreIsRefused() throws {
        let sector = SlotSector(generation: 1, record: nil).encode(identity: identity, at: 131_072)
        for (other, place) in [(identity, 131_584), (StoreIdentity(low: 1, high: 2), 131_072)] as [(StoreIdentity, UInt64)] {
            #expect(throws: StoreError.self) {
                try sector.withUnsafeBytes { bytes in try SlotSector.decode(bytes, identity: other, at: place) }
            }
        }
        var newer = Superblock(identity: identity, createdAt: 0, layout: try #require(StoreLayout(slotCount: 1, segmentCount: 2)))
        newer.incompatible = 4
        #expect(throws: StoreError.self) {
            try newer.encode(copy: 0).withUnsafeBytes { bytes in try Superblock(bytes, copy: 0, store: "golden") }
        }
    }
}
