import AuroraVMM
import Linux
import Testing

@testable import Snapshot

/// Buffers for the next epoch: never waited for where none can come.
@Suite struct RoomTests {
    @Test func whatIsDoneForRoom() {
        func step(used: Int, leased: Int, free: Int, takers: Bool = true) -> RoomStep {
            RoomStep(.init(used: used, leased: leased, free: free, total: 100, hasTakers: takers))
        }
        #expect(step(used: 1, leased: 30, free: 0) == .handOver)
        #expect(step(used: 0, leased: 30, free: 0) == .wait)
        // All that is not free is the batch's own: nothing is under way.
        #expect(step(used: 0, leased: 30, free: 70) == .goOn)
        #expect(step(used: 0, leased: 100, free: 0) == .goOn)
        #expect(step(used: 0, leased: 30, free: 10, takers: false) == .abandon)
        #expect(step(used: 5, leased: 30, free: 10, takers: false) == .handOver)
    }

    /// An idle guest of many gigabytes gives its memory back: hundreds of thousands of pages of zeros in one stop, which take no buffer.
    @Test func zerosAreNoReasonForBuffers() {
        var planner = PreCopyPlanner()
        let pool = PagePool.bytesDefault / pageBytes
        for _ in 0..<50 { planner.note(pages: 164_054, inStop: .init(pages: 164_054, buffers: 0), nanoseconds: 100_000_000) }
        #expect(planner.reserve(pool: pool, vainStops: 0) == PreCopyPlanner.reserveMin)
        #expect(planner.entries <= 1 << 18)
    }

    @Test func aReserveIsWithinThePool() {
        var generator = SeededGenerator(seed: 5)
        for pool in [PagePool.bytesMin / pageBytes, PagePool.bytesDefault / pageBytes] {
            var planner = PreCopyPlanner()
            for _ in 0..<2000 {
                let pages = generator.below(1 << (1 + generator.below(24)))
                planner.note(pages: pages, inStop: .init(pages: pages, buffers: generator.below(pages + 1)), nanoseconds: Int64(pages))
                var before = 0
                for vain in [0, 1, 2, 5, 40, Int.max] {
                    let reserve = planner.reserve(pool: pool, vainStops: vain)
                    #expect(reserve >= PreCopyPlanner.reserveMin && reserve >= before)
                    #expect(reserve <= (vain == 0 ? pool / 4 : pool / 4 * 3))
                    before = reserve
                }
            }
        }
    }

    /// A batch that waits as `RoomStep` says, at random, beside backends that keep parts for a while: it always gets what it wants, and
    /// never waits while nobody holds anything.
    @Test(arguments: [11, 12, 13] as [UInt64])
    func waitingAlwaysEnds(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let pool = try PagePool(bytes: 0) {}
        let batch = PageBatch(pool)
        var held: [PageSet] = []
        var page = 0
        for _ in 0..<3000 {
            let wanted = 1 + generator.below(pool.chunkCount * PagePool.chunkPages / 4 * 3)
            var steps = 0
            while !batch.reserve(wanted) {
                steps += 1
                try #require(steps < 1000, "seed \(seed): it waits for ever")
                let now = RoomStep.Situation(
                    used: batch.chunksUsed, leased: batch.chunksLeased, free: pool.freeChunks, total: pool.chunkCount, hasTakers: true)
                switch RoomStep(now) {
                case .handOver: held.append(batch.takeAll())
                case .wait:
                    try #require(!held.isEmpty, "seed \(seed): it waits for nobody")
                    held.remove(at: generator.below(held.count))
                case .goOn, .abandon: Issue.record("seed \(seed): there is room for \(wanted)")
                }
            }
            for _ in 0..<generator.below(wanted + 1) {
                page += 1
                #expect(batch.add(PageKey(map: 0, page: page)) != nil)
                if generator.below(3) == 0 { batch.addZero(PageKey(map: 1, page: page)) }
            }
            if generator.below(4) == 0 { batch.trim(keeping: generator.below(2048)) }
            if !held.isEmpty, generator.below(2) == 0 { held.removeFirst() }
        }
    }

    /// Rates are those of now.
    @Test func ratesFall() {
        var history = StatisticsHistory()
        var clock: Int64 = 1_000_000_000_000
        func rate(_ period: Int64?, since: Int64 = 0) -> Double { history.figures(now: clock, since: since, period: period).rate }
        func run(_ count: Int, every period: Int64) {
            for _ in 0..<count {
                clock += period
                var statistics = EpochStatistics()
                statistics.monotonicClock = clock
                statistics.pages = 7
                history.append(statistics)
            }
        }
        #expect(rate(10_000_000) == 0)
        run(5000, every: 10_000_000)
        #expect(abs(rate(10_000_000) - 100) < 0.5)
        #expect(abs(history.figures(now: clock, since: 0, period: 10_000_000).pagesPerSecond - 700) < 4)
        clock += 500_000_000
        #expect(rate(10_000_000) < 70)
        clock += 600_000_000
        #expect(rate(10_000_000) == 0)
        // After a change of the period only what came since counts.
        run(200, every: 10_000_000)
        let changed = clock
        run(1, every: 1_000_000_000)
        #expect(abs(rate(1_000_000_000, since: changed) - 1) < 0.1)
        run(9, every: 1_000_000_000)
        #expect(abs(rate(1_000_000_000, since: changed) - 1) < 0.01)
        #expect(rate(nil) > 0)
        clock += 86_400_000_000_000
        #expect(rate(1_000_000_000, since: changed) == 0 && rate(nil) == 0)
    }
}
