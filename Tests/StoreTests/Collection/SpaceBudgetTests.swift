import StoreSimulation
import Testing

@testable import Store

@Suite struct SpaceBudgetTests {
    private func space(_ name: String, _ parts: [UInt64], isWritten: Bool = true) -> StreamSpace {
        let newest = UInt64(parts.count)
        return StreamSpace(
            name: name, isWritten: isWritten, parts: parts.enumerated().map { .init(number: newest - UInt64($0), bytes: $1) })
    }

    @Test func theOldestGoFirstAndTheNewestNever() {
        // Newest first: checkpoints 5, 4, 3, 2, 1.
        let one = space("one", [1000, 10, 20, 30, 40])
        func oldest(_ budget: SpaceBudget, used: UInt64 = 1100) -> UInt64? { budget.oldestKept(of: "one", in: [one], usedBytes: used) }
        #expect(one.historyBytes == 100)
        #expect(oldest(SpaceBudget()) == nil)
        #expect(oldest(SpaceBudget(historyBytes: 100)) == nil)
        #expect(oldest(SpaceBudget(historyBytes: 99)) == 2)
        #expect(oldest(SpaceBudget(historyBytes: 30)) == 3)
        #expect(oldest(SpaceBudget(historyBytes: 9)) == 5)
        #expect(oldest(SpaceBudget(storeBytes: 1100)) == nil)
        #expect(oldest(SpaceBudget(storeBytes: 1099)) == 2)
        #expect(oldest(SpaceBudget(storeBytes: 1030)) == 3)
        // More than the history has cannot go.
        #expect(oldest(SpaceBudget(storeBytes: 10)) == 5)
        #expect(SpaceBudget(storeBytes: 10).oldestKept(of: "other", in: [one], usedBytes: 100) == nil)
    }

    @Test func whatIsTooMuchIsSharedByThoseWhoCanGive() {
        let streams = [space("one", [5, 30, 30]), space("two", [5, 10, 10]), space("idle", [5, 500], isWritten: false)]
        let budget = SpaceBudget(storeBytes: 555)
        // 40 bytes too much: 30 of the one, 10 of the other.
        #expect(budget.oldestKept(of: "one", in: streams, usedBytes: 595) == 2)
        #expect(budget.oldestKept(of: "two", in: streams, usedBytes: 595) == 2)
        #expect(budget.reserving(100).storeBytes == 455 && budget.reserving(1000).storeBytes == 278)
    }

    /// Parts are exact: dropping all older than one frees the sum of theirs.
    @Test(arguments: [1, 2, 3] as [UInt64]) func partsSayWhatDroppingFrees(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let (_, ground) = try smallStore()
        let store = Store(ground: ground)
        let writer = try store.createStream(name: "one", time: 1)
        for number in 1...40 as ClosedRange<UInt64> { try write(writer, number, pages: 64, changing: 8, &random) }
        try writer.flush()
        let parts = try #require(try store.collect().spaces.first).parts
        #expect(parts.first?.number == 40)
        let cut = UInt64.random(in: 2...39, using: &random)
        let wanted = parts.filter { $0.number != 0 && $0.number < cut }.reduce(0) { $0 + $1.bytes }
        #expect(try writer.drop(olderThan: cut) == Int(cut) - 1)
        try writer.finish()
        // What was given out meanwhile, and pages of the history itself, are no checkpoint's.
        let after = try store.collect().spaces.first?.parts ?? []
        let difference = Int(parts.reduce(0) { $0 + $1.bytes }) - Int(after.reduce(0) { $0 + $1.bytes }) - Int(wanted)
        #expect(abs(difference) <= 16 * StoreFormat.blockBytes, "seed \(seed): \(difference) bytes")
    }

    /// A long history of a small working set on a small disk: it stays within its bounds all the time, and goes on.
    @Test(arguments: [1, 2] as [UInt64]) func aHistoryStaysWithinItsRoom(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let (disk, ground) = try smallStore()
        disk.restartTrace(recording: false)
        let store = Store(ground: ground)
        let writer = try store.createStream(name: "one", time: 1, options: WriterOptions(retention: .standard))
        let all = try ground.freeBytes()
        let limit: UInt64 = 32 << 20
        let every: UInt64 = 1 << 20
        let budget = SpaceBudget(storeBytes: limit).reserving(2 * every)
        var since: UInt64 = 0
        var written: UInt64 = 0
        var most: UInt64 = 0
        for number in 1...600 as ClosedRange<UInt64> {
            let bytes = try write(writer, number, pages: 512, changing: 32, &random)
            since += bytes
            written += bytes
            if number % 8 == 0 { try writer.flush() }
            most = max(most, all - (try ground.freeBytes()))
            guard since >= every else { continue }
            since = 0
            try store.collect(within: budget, thinning: writer)
        }
        try writer.flush()
        #expect(written > 2 * limit, "seed \(seed): it wrote \(written) bytes, too little to mean anything")
        #expect(most <= limit, "seed \(seed): it took \(most) bytes")
        let kept = try writer.history().map(\.number)
        #expect(kept.last == 600 && kept.count > 32, "seed \(seed): \(kept.count) checkpoints are left")
        let again = try Store.open(SimulatedDisk(disk.image), memory: .alone)
        #expect(try again.history("one").last?.number == 600)
        #expect(try again.scrub().isClean)
    }

    /// Commits new contents of some pages; returns the bytes written.
    @discardableResult
    private func write(
        _ writer: StreamWriter, _ number: UInt64, pages: UInt64, changing count: Int, _ random: inout SeededGenerator
    ) throws -> UInt64 {
        var changed: [(PageKey, UInt64)] = []
        for _ in 0..<count {
            let key = try #require(PageKey(map: 0, page: UInt64.random(in: 0..<pages, using: &random)))
            changed.append((key, UInt64.random(in: 1 ... .max, using: &random)))
        }
        try writer.begin(number)
        try PageContents.add(changed, to: writer)
        return try writer.close(bytes: [1], name: "", time: number).writtenBytes
    }
}
