import Linux
import Testing

@testable import AuroraVMM

@Suite struct GuestMemoryTests {
    private func memory() throws -> GuestMemory {
        GuestMemory(regions: [
            .init(start: GuestAddress(0), mapping: try .anonymous(count: 4 * pageBytes, what: "test memory")),
            .init(start: GuestAddress(0x10_0000), mapping: try .anonymous(count: pageBytes, what: "test memory")),
        ])
    }

    @Test func storesAreReadBackAndMarkedDirty() throws {
        let memory = try memory()
        try memory.store(UInt32(0xdead_beef), at: GuestAddress(0x10_0ffc))
        #expect(try memory.load(GuestAddress(0x10_0ffc), as: UInt32.self) == 0xdead_beef)
        var pages: [Int] = []
        memory.regions[1].dirty.drain { pages.append($0) }
        #expect(pages == [0])
    }

    @Test(arguments: [
        (UInt64(0x3fff), 2), (0x4000, 1), (0xf_ffff, 2), (0x10_0ffd, 4), (.max, 1), (.max - 3, 8), (0, 1 << 40), (0, -1),
    ])
    func rangesOutsideRegionsAreRefused(address: UInt64, count: Int) throws {
        let memory = try memory()
        #expect(throws: GuestMemoryError.self) { try memory.pointer(GuestAddress(address), count) }
    }
}

@Suite struct DirtyBitmapTests {
    /// Against a set, with sizes around the summary's borders.
    @Test(arguments: [1, 63, 64, 65, 4095, 4096, 4097, 300_000])
    func itTakesWhatWasMarked(pages: Int) {
        var generator = SeededGenerator(seed: UInt64(pages))
        let bitmap = DirtyBitmap(pages: pages)
        for _ in 0..<50 {
            var expected: Set<Int> = []
            for _ in 0..<generator.below(100) {
                let page = generator.below(pages)
                bitmap.mark(page: page)
                expected.insert(page)
            }
            var taken: [Int] = []
            bitmap.drain { taken.append($0) }
            #expect(taken == expected.sorted())
        }
        bitmap.markAll()
        var next = 0
        bitmap.drain {
            #expect($0 == next)
            next += 1
        }
        #expect(next == pages)
    }
}
