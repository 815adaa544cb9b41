import StoreSimulation
import Testing

@testable import Store

/// A checkpoint that a machine still reads from, while its history is thinned, collected and dropped from.
@Suite struct KeptCheckpointTests {
    private static let pages: UInt64 = 60

    private func commit(_ writer: StreamWriter, _ numbers: ClosedRange<UInt64>) throws {
        for number in numbers {
            try writer.begin(number)
            let keys = try stride(from: number % 3, to: Self.pages, by: 3).map { try #require(PageKey(map: 0, page: $0)) }
            try PageContents.add(keys.map { ($0, 10_001 + 2 * (number * 100 + $0.page)) }, to: writer)
            try writer.close(bytes: [1], time: number)
        }
        try writer.flush()
    }

    private func contents(_ reader: CheckpointReader) throws -> [[UInt8]] {
        try (0..<Self.pages).map { try PageContents.read(try #require(PageKey(map: 0, page: $0)), from: reader) }
    }

    /// Pages nobody has touched yet are read after everything else of that age is gone.
    @Test(arguments: [false, true])
    func isReadWhileItsHistoryGoes(wasRolledBackTo: Bool) throws {
        let (_, ground) = try smallStore()
        let store = Store(ground: ground)
        let writer = try store.createStream(name: "one", time: 1)
        try commit(writer, 1...40)
        let wanted = try contents(store.checkpoint(stream: "one", .number(20)))
        let reader = try store.checkpoint(stream: "one", .number(20))
        writer.keep(20)
        if wasRolledBackTo { try writer.rebase(on: reader) }
        var freed: UInt64 = 0
        for round in 0..<10 as Range<UInt64> {
            try commit(writer, 41 + round * 20...60 + round * 20)
            #expect(try writer.thin(.last(2)) > 0)
            freed += try store.collect().blocksFreed
            #expect(try contents(reader) == wanted, "round \(round)")
        }
        #expect(try store.history("one").map(\.number) == [20, 239, 240])
        #expect(freed > 1000)
    }

    /// Dropping it is refused with the reason, forced or not, and nothing of the list is dropped; the next writer may.
    @Test func isNotDropped() throws {
        let (_, ground) = try smallStore()
        let store = Store(ground: ground)
        let writer = try store.createStream(name: "one", time: 1)
        try commit(writer, 1...10)
        writer.keep(4)
        for force in [false, true] {
            let error = #expect(throws: StoreError.self) { try writer.drop([3, 4, 5], force: force) }
            #expect(error?.description == "Checkpoint 4 of one is kept: a running machine still reads from it")
        }
        #expect(try writer.history().map(\.number) == Array(1...10))
        try writer.finish()
        let next = try store.writer(for: "one")
        try next.drop([3, 4, 5])
        #expect(try next.history().map(\.number) == [1, 2, 6, 7, 8, 9, 10])
    }
}
