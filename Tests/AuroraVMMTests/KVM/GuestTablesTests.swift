import Linux
import Testing

@testable import AuroraVMM

/// Page tables made by hand: which addresses of which pages are found.
@Suite struct GuestTablesTests {
    private static let (present, writable, user, accessed, dirty): (UInt64, UInt64, UInt64, UInt64, UInt64) = (1, 2, 4, 0x20, 0x40)
    private static let all: UInt64 = 0x67
    private let memory: GuestMemory

    init() throws {
        memory = GuestMemory(regions: [
            .init(start: GuestAddress(0), mapping: try .anonymous(count: 64 * pageBytes, what: "test memory")),
            .init(start: ShimLayout.slotAddress, mapping: try .anonymous(count: ShimLayout.largePage, what: "a test slot")),
        ])
    }

    private func set(_ table: Int, _ index: Int, _ page: Int, _ flags: UInt64 = GuestTablesTests.all) throws {
        try memory.store(UInt64(page * pageBytes) | flags, at: GuestAddress(UInt64(table * pageBytes + index * 8)))
    }

    /// A top table in page `top`, and three tables behind it that map `slot` of the top table to the last of them.
    private func makeTables(_ top: Int, _ slot: Int, _ l3: Int, _ l2: Int, _ l1: Int) throws {
        for (index, entry) in ShimSlot.topEntries { try memory.store(entry, at: GuestAddress(UInt64(top * pageBytes + index * 8))) }
        try set(top, slot, l3)
        try set(l3, 0, l2)
        try set(l2, 0, l1)
    }

    private func touches(_ roots: [Int], _ uses: [Int: UInt8]) -> [[UInt64]] {
        let all = (0..<memory.pageCount).map { uses[$0] ?? 0 }
        return GuestTables.touches(in: memory, roots: roots.map { UInt64($0 * pageBytes) }, uses: all).map(\.addresses)
    }

    @Test func onlyWhatWasUsedBeforeIsFound() throws {
        try makeTables(1, 0, 2, 3, 4)
        let flags = GuestTablesTests.all
        try set(4, 0, 10)
        try set(4, 1, 11, flags & ~GuestTablesTests.accessed)
        try set(4, 2, 12, flags & ~GuestTablesTests.dirty)
        try set(4, 3, 13, flags & ~GuestTablesTests.writable)
        try set(4, 4, 14, flags & ~GuestTablesTests.user)
        try set(4, 5, 15, flags & ~GuestTablesTests.present)
        try set(4, 6, 16)
        try set(4, 7, 5000)
        let written = Dictionary(uniqueKeysWithValues: (10...15).map { ($0, UInt8(2)) })
        #expect(touches([1], written) == [[0x0001, 0x2000, 0x3000]], "page 16 is not used, frame 5000 does not exist")
        #expect(touches([1], [10: 1, 16: 2]) == [[0x0000, 0x6001]])
        try set(1, 0, 2, flags & ~GuestTablesTests.writable)
        #expect(touches([1], [10: 2]) == [[0x0000]], "no level may forbid to write")
    }

    @Test func tablesAreOnlyReadAndAliasesLeftOut() throws {
        try makeTables(1, 0, 2, 3, 4)
        try set(4, 0, 10)
        // The kernel's map of all memory: pages 10 and 11, and the table 4.
        try makeTables(1, 273, 5, 6, 7)
        try set(7, 10, 10)
        try set(7, 11, 11)
        try set(7, 4, 4)
        let direct: UInt64 = 0xffff_8880_0000_0000
        #expect(touches([1], [10: 2, 11: 2, 4: 2]) == [[0x0001, direct + 0x4000, direct + 0xb001]])
    }

    @Test func theKernelsHalfIsTakenOnce() throws {
        try makeTables(1, 0, 2, 3, 4)
        try makeTables(8, 0, 9, 20, 21)
        try set(4, 0, 10)
        try set(21, 0, 11)
        try makeTables(1, 511, 5, 6, 7)
        try set(8, 511, 5)
        try set(7, 0, 12)
        let kernel: UInt64 = 0xffff_ff80_0000_0000
        #expect(touches([1, 8], [10: 1, 11: 1, 12: 1]) == [[0, kernel], [0]])
        // A page that is no top table yields nothing, nor does one that does not exist.
        #expect(touches([4, 6000, 8], [11: 1, 12: 1]) == [[0, kernel]])
    }

    @Test func theShimsOwnLargePageIsFound() throws {
        try makeTables(1, 0, 2, 3, 4)
        let entries = [(ShimLayout.shimL3, ShimSlot.physical(ShimLayout.shimL2)), (ShimLayout.shimL2, ShimSlot.physical(0) | 0x80)]
        for (offset, entry) in entries {
            try memory.store(entry | GuestTablesTests.all, at: GuestAddress(ShimSlot.physical(offset)))
        }
        let page = 64 + ShimLayout.sharedInfo / pageBytes
        #expect(touches([1], [page: 2]) == [[ShimLayout.virtualBase + UInt64(ShimLayout.sharedInfo) | 1]])
        #expect(GuestTables.reachShim(in: memory))
        try memory.store(UInt64(0x1000) | 0x80 | GuestTablesTests.all, at: GuestAddress(ShimSlot.physical(ShimLayout.shimL2)))
        #expect(!GuestTables.reachShim(in: memory), "it leads elsewhere")
    }

    /// Tables that lead back to themselves: as many are visited as a guest may have, and no more.
    @Test func tablesThatGoRoundEnd() throws {
        try makeTables(1, 0, 1, 1, 1)
        for index in 0..<256 { try set(1, index, 1) }
        for index in 272..<512 { try set(1, index, 1) }
        #expect(touches([1], [1: 2]).flatMap { $0 }.allSatisfy { $0 & 1 == 0 })
    }
}
