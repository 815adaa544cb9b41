import StoreSimulation
import Testing

@testable import Store

@Suite struct HistoryTests {
    private func makeStore() throws -> (Store, SimulatedDisk) {
        let disk = SimulatedDisk(byteCount: 256 << 20)
        disk.restartTrace(recording: false)
        try Store.create(on: disk, StoreConfiguration(slotCount: 4, identity: StoreIdentity(low: 1, high: 2)))
        return (try Store.open(disk, memory: .alone, indexBytes: 1 << 16), disk)
    }

    private func fill(_ writer: StreamWriter, _ numbers: ClosedRange<UInt64>, names: [UInt64: String] = [:]) throws {
        for number in numbers {
            try writer.begin(number)
            try writer.close(name: names[number] ?? "", time: number * 10)
        }
    }

    @Test func theStandardPolicyKeepsFewerTheOlderTheyAre() {
        let kept = (UInt64(0)...100_000).filter { RetentionPolicy.standard.keeps($0, newest: 100_000) }
        #expect(kept.suffix(512) == ArraySlice(UInt64(99_489)...100_000))
        #expect(kept.count < 512 + 512 + 512 + 512 && kept.count > 1000)
        for number in kept where 100_000 - number >= 32768 { #expect(number % 512 == 0) }
        #expect((UInt64(1)...20).filter { RetentionPolicy.last(3).keeps($0, newest: 20) } == [18, 19, 20])
    }

    @Test func thinsAsItGrowsAndKeepsWhatIsNamed() throws {
        let (store, _) = try makeStore()
        let policy = RetentionPolicy(rules: [.init(step: 1, window: 20), .init(step: 8, window: 200)])
        let writer = try store.createStream(name: "one", time: 1, options: WriterOptions(retention: policy))
        try fill(writer, 1...1000, names: [3: "three", 500: "middle"])
        try writer.thin(policy)
        let wanted = (UInt64(1)...1000).filter { policy.keeps($0, newest: 1000) || $0 == 3 || $0 == 500 }
        #expect(try store.history("one").map(\.number) == wanted)
        #expect(try store.checkpoint(stream: "one", .name("three")).number == 3)
        try writer.name(3, "")
        try writer.thin(policy)
        #expect(try store.history("one").map(\.number) == wanted.filter { $0 != 3 })
        try writer.finish()
        let again = try store.writer(for: "one")
        try fill(again, 1001...1003)
        #expect(try again.history().map(\.number) == wanted.filter { $0 != 3 } + [1001, 1002, 1003])
    }

    @Test func findsByNumberAndByTime() throws {
        let (store, _) = try makeStore()
        let writer = try store.createStream(name: "one", time: 1)
        try fill(writer, 1...300)
        for number in [1, 21, 22, 64, 65, 299, 300] as [UInt64] {
            #expect(try store.checkpoint(stream: "one", .number(number)).number == number)
            #expect(try store.checkpoint(stream: "one", .notAfter(number * 10 + 9)).number == number)
        }
        #expect(throws: StoreError.self) { try store.checkpoint(stream: "one", .notAfter(9)) }
        // A clock that was set back: the newest that was made before, as the clock said.
        try writer.begin(301)
        try writer.close(time: 55)
        #expect(try store.checkpoint(stream: "one", .notAfter(60)).number == 301)
    }

    /// Opening reads what is recent, however long the history is.
    @Test func openingReadsOnlyWhatIsRecent() throws {
        let (store, disk) = try makeStore()
        let writer = try store.createStream(name: "one", time: 1)
        try fill(writer, 1...200)
        try writer.flush()
        let short = try readsToOpen(disk)
        try fill(writer, 201...5000)
        try writer.flush()
        let long = try readsToOpen(disk)
        #expect(long < short + 40, "\(long) reads after \(short)")
    }

    private func readsToOpen(_ disk: SimulatedDisk) throws -> Int {
        let fresh = try Store.open(disk, memory: .alone, indexBytes: 1 << 16)
        let before = disk.count(of: .read)
        _ = try fresh.checkpoint(stream: "one")
        return disk.count(of: .read) - before
    }

    /// Random removals, against a sorted array.
    @Test(arguments: 1...5)
    func removesLikeAnArray(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let (store, _) = try makeStore()
        let writer = try store.createStream(name: "one", time: 1)
        try fill(writer, 1...400)
        var model = Array(UInt64(1)...400)
        while model.count > 20 {
            let victims = model.dropLast().filter { _ in Int.random(in: 0..<6, using: &generator) == 0 }
            try writer.drop(victims)
            model.removeAll { victims.contains($0) }
            #expect(try writer.history().map(\.number) == model, "seed=\(seed)")
            #expect(try store.history("one").map(\.number) == model, "seed=\(seed)")
            #expect(try store.stream("one").checkpointCount == UInt64(model.count))
        }
    }
}
