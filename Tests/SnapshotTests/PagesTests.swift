import AuroraVMM
import Linux
import Synchronization
import Testing

@testable import Snapshot

/// Buffers, sets of pages, and statistics; no kernel device.
@Suite struct PagesTests {
    private func memory(pages: Int) throws -> GuestMemory {
        GuestMemory(regions: [.init(start: GuestAddress(0), mapping: try .anonymous(count: pages * pageBytes, what: "test memory"))])
    }

    private func fill(_ memory: GuestMemory, page: Int, _ value: UInt64) throws {
        try memory.store(value, at: GuestAddress(UInt64(page * pageBytes)))
    }

    private func firstWord(_ set: PageSet, _ index: Int) -> UInt64 { set.withBytes(at: index) { $0.load(as: UInt64.self) } }

    /// A page copied twice is there once, with its last contents; the set is in order.
    @Test func aPageIsInAnEpochOnce() throws {
        let memory = try memory(pages: 100)
        let pool = try PagePool(bytes: 0) {}
        let collector = try PageCollector(memory, pool: pool)
        #expect(collector.batch.reserve(10))
        for (page, value) in [(7, 1), (3, 2), (7, 3), (99, 4), (3, 5)] as [(Int, UInt64)] {
            try fill(memory, page: page, value)
            #expect(collector.copy(page: page))
        }
        let set = collector.takeAll()
        #expect((0..<set.count).map { set[$0] } == [3, 7, 99].map { PageKey(map: 0, page: $0) })
        #expect((0..<set.count).map { firstWord(set, $0) } == [5, 3, 4])
        // A new epoch, the old set unchanged.
        try fill(memory, page: 7, 6)
        #expect(!collector.copy(page: 7))
        #expect(collector.batch.reserve(1))
        #expect(collector.copy(page: 7))
        let next = collector.takeAll()
        #expect(next.count == 1 && firstWord(next, 0) == 6 && firstWord(set, 1) == 3)
    }

    /// Pages of zeros take no buffer, also when they get contents later, or lose them.
    @Test func zerosTakeNoBuffer() throws {
        let memory = try memory(pages: 5000)
        let pool = try PagePool(bytes: 0) {}
        let collector = try PageCollector(memory, pool: pool)
        for page in 0..<5000 { #expect(collector.copy(page: page)) }
        #expect(collector.batch.count == 5000 && pool.freeChunks == pool.chunkCount)
        try fill(memory, page: 4000, 9)
        #expect(!collector.copy(page: 4000), "it needs a buffer now")
        #expect(collector.batch.reserve(1))
        #expect(collector.copy(page: 4000))
        try fill(memory, page: 4000, 0)
        #expect(collector.copy(page: 4000))
        try memory.store(UInt8(3), at: GuestAddress(UInt64(7 * pageBytes + 4095)))
        #expect(collector.copy(page: 7))
        let set = collector.takeAll()
        #expect(set.count == 5000 && (0..<5000).filter { !set.isZero(at: $0) } == [7, 4000])
        let sums = (0..<5000).map { set.withBytes(at: $0) { $0.reduce(0) { $0 + Int($1) } } }
        #expect(sums.enumerated().filter { $1 != 0 }.map(\.offset) == [7] && sums[7] == 3)
    }

    /// Buffers are bounded, and come back when a set is let go.
    @Test func thePoolIsBounded() throws {
        let returned = Mutex(0)
        let pool = try PagePool(bytes: 0) { returned.withLock { $0 += 1 } }
        let pages = pool.chunkCount * PagePool.chunkPages
        #expect(pages == PagePool.bytesMin / pageBytes)
        let memory = try memory(pages: pages + 1)
        for page in 0...pages { try fill(memory, page: page, 1) }
        let collector = try PageCollector(memory, pool: pool)
        #expect(!collector.batch.reserve(pages + 1))
        #expect(collector.batch.reserve(pages))
        for page in 0..<pages { #expect(collector.copy(page: page)) }
        #expect(!collector.copy(page: pages))
        #expect(collector.copy(page: 0))
        #expect(pool.freeChunks == 0)
        var set: PageSet? = collector.takeAll()
        #expect(set?.count == pages)
        #expect(!collector.batch.reserve(1))
        set = nil
        #expect(returned.withLock { $0 } == 1)
        #expect(pool.freeChunks == pool.chunkCount)
        #expect(!collector.batch.reserve(1, keeping: pool.chunkCount))
        #expect(collector.batch.reserve(1, keeping: pool.chunkCount - 1))
    }

    @Test func keysAreOrderedByMapThenPage() {
        let keys = [
            PageKey(map: 0, page: PageKey.pagesMax - 1), PageKey(map: 1, page: 0), PageKey(map: 1, page: 1), PageKey(map: 2, page: 0),
        ]
        #expect(keys.shuffled().sorted() == keys)
        #expect(keys[0].map == 0 && keys[0].page == PageKey.pagesMax - 1 && keys[3].map == 2)
    }

    @Test func theHistoryIsBounded() {
        var history = StatisticsHistory()
        for number in 0..<StatisticsHistory.epochsMax + 10 {
            var statistics = EpochStatistics()
            statistics.pause = Int64(number)
            history.append(statistics)
        }
        #expect(history.count == UInt64(StatisticsHistory.epochsMax + 10))
        #expect(history.epochs.map(\.pause) == (10..<Int64(StatisticsHistory.epochsMax + 10)).map { $0 })
        #expect(history.distribution(\.stop).max == Int64(StatisticsHistory.epochsMax + 9))
        #expect(Distribution([3, 1, 2]) == Distribution([1, 2, 3]))
        #expect(Distribution([1, 2, 3]).p50 == 2)
    }

    @Test func aPeriodAdapts() {
        let period = CheckpointPeriod.adaptive(share: 0.02, least: 5_000_000, most: 100_000_000)
        #expect(period.next(after: 10_000) == 5_000_000)
        #expect(period.next(after: 400_000) == 20_000_000)
        #expect(period.next(after: 1_000_000_000) == 100_000_000)
        #expect(CheckpointPeriod.fixed(nanoseconds: 0).next(after: 0) == CheckpointPeriod.nanosecondsMin)
        #expect(CheckpointPeriod.adaptive(share: 0, least: 0, most: 7_000_000).next(after: 1) == 7_000_000)
    }
}
