import Snapshot
import Testing

/// The lists of pages in launch images, well formed and hostile.
struct LaunchFormatTests {
    private static func pages(_ random: inout SeededGenerator, of total: Int) -> [Int] {
        var pages: Set<Int> = []
        for _ in 0..<random.below(40) {
            let first = random.below(total)
            for page in first..<min(total, first + 1 + random.below(30)) { pages.insert(page) }
        }
        return pages.sorted()
    }

    @Test(arguments: 1...50) func runsCoverTheirPagesInOrder(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let total = 1 + random.below(5000)
        let pages = LaunchFormatTests.pages(&random, of: total)
        let runs = LaunchRuns(covering: pages)
        var covered: Set<Int> = []
        var (end, place) = (-1, 0)
        for run in runs.runs {
            #expect(run.first > end && run.count > 0 && run.place == place, "seed \(seed)")
            for page in run.first..<run.first + run.count { covered.insert(page) }
            (end, place) = (run.first + run.count - 1, place + run.count)
        }
        #expect(covered.isSuperset(of: pages), "seed \(seed)")
        #expect(end < total && place == runs.pageCount, "seed \(seed)")
        #expect(LaunchRuns(encoded: runs.encoded, pages: total) == runs, "seed \(seed)")
    }

    @Test func manyRunsAreJoined() {
        let runs = LaunchRuns(covering: (0..<200_000).map { $0 * 20 })
        #expect(runs.runs.count <= LaunchRuns.runsMax)
        #expect(LaunchRuns(covering: (0..<200).map { $0 * 10_000 }).runs.count == 200)
    }

    @Test(arguments: 1...50) func damagedRunsAreRefusedOrInOrder(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        let total = 5000
        var bytes = LaunchRuns(covering: LaunchFormatTests.pages(&random, of: total) + [total - 1]).encoded
        for _ in 0...random.below(4) { bytes[random.below(bytes.count)] = UInt8(random.below(256)) }
        if random.below(3) == 0 { bytes.removeLast(random.below(bytes.count)) }
        guard let runs = LaunchRuns(encoded: bytes, pages: total) else { return }
        var end = 0
        for run in runs.runs {
            #expect(run.first >= end && run.count > 0 && run.first + run.count <= total, "seed \(seed)")
            end = run.first + run.count
        }
    }

    @Test(arguments: 1...50) func workingSetsComeBackWholeOrNotAtAll(seed: UInt64) {
        var random = SeededGenerator(seed: seed)
        let total = 5000
        let pages = LaunchFormatTests.pages(&random, of: total)
        let set = WorkingSet(pages.map { ($0, $0 % 3 == 0) }).with(addressSpaces: pages.prefix(3).map { UInt64($0) << 12 })
        #expect(set.pages == Set(pages), "seed \(seed)")
        #expect(set.writtenCount == pages.count { $0 % 3 == 0 }, "seed \(seed)")
        var bytes = set.encoded
        #expect(WorkingSet(encoded: bytes, pages: total) == set, "seed \(seed)")
        // Whatever byte is damaged, the checksum tells.
        let index = random.below(bytes.count)
        bytes[index] ^= UInt8(1 << random.below(8))
        #expect(WorkingSet(encoded: bytes, pages: total) == nil, "seed \(seed), byte \(index)")
        #expect(WorkingSet(encoded: Array(set.encoded.dropLast(1)), pages: total) == nil, "seed \(seed)")
        if let last = pages.last { #expect(WorkingSet(encoded: set.encoded, pages: last) == nil, "seed \(seed)") }
    }

    @Test func workingSetsDrift() {
        func set(_ pages: Range<Int>) -> WorkingSet { WorkingSet(pages.map { ($0, false) }) }
        #expect(!set(0..<100).hasDrifted(from: set(5..<100)))
        #expect(set(0..<100).hasDrifted(from: set(50..<150)))
        #expect(set(0..<100).hasDrifted(from: set(0..<50)))
        #expect(!set(0..<0).hasDrifted(from: set(0..<0)))
    }
}
