import StoreSimulation
import Testing

@testable import Store

/// A wall clock that jumps back and ahead while checkpoints are made.
@Suite struct JumpingClockTests {
    /// The history stays in the order of the epochs; a time names the newest checkpoint that bears that time or an earlier one;
    /// also after opening anew, and after thinning.
    @Test(arguments: 1...8 as ClosedRange<UInt64>)
    func orderIsThatOfTheEpochs(seed: UInt64) throws {
        var generator = SeededGenerator(seed: seed)
        let (disk, ground) = try smallStore()
        let store = Store(ground: ground)
        let writer = try store.createStream(name: "one", time: 1, options: WriterOptions(retention: .last(60)))
        var model: [(number: UInt64, time: UInt64)] = []
        var clock: UInt64 = 1_000_000
        for number in 1...200 as ClosedRange<UInt64> {
            switch UInt64.random(in: 0..<10, using: &generator) {
            case 0: clock -= min(clock, UInt64.random(in: 0..<50_000, using: &generator))
            case 1: clock = min(clock, .max - 50_000) + UInt64.random(in: 0..<50_000, using: &generator)
            case 2 where number % 7 == 0: clock = [0, 1, .max, 1_000_000][Int.random(in: 0..<4, using: &generator)]
            default: clock = clock < .max - 100 ? clock + 100 : 1_000_000
            }
            try writer.begin(number)
            try writer.close(time: clock)
            model.append((number, clock))
        }
        try writer.thin(.last(60))
        model.removeFirst(140)
        try writer.finish()
        let again = try Store.open(SimulatedDisk(disk.image), memory: .alone, indexBytes: 1 << 16)
        for store in [store, again] {
            #expect(try store.history("one").map(\.number) == model.map(\.number), "seed=\(seed)")
            #expect(try store.history("one").map(\.time) == model.map(\.time), "seed=\(seed)")
            #expect(try store.checkpoint(stream: "one", .latest).number == 200)
            for time in model.flatMap({ [$0.time, $0.time &- 1, $0.time &+ 1] }) {
                let expected = model.last { $0.time <= time }?.number
                if let expected {
                    #expect(try store.checkpoint(stream: "one", .notAfter(time)).number == expected, "seed=\(seed) time=\(time)")
                } else {
                    #expect(throws: StoreError.self) { try store.checkpoint(stream: "one", .notAfter(time)) }
                }
            }
        }
    }
}
