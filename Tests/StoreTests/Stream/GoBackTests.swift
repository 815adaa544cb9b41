import Linux
import StoreSimulation
import Testing

@testable import Store

/// Going back to an earlier checkpoint, and what is left of that after a crash.
@Suite struct GoBackTests {
    private func makeDisk() throws -> SimulatedDisk {
        let disk = SimulatedDisk(byteCount: 64 << 20)
        try Store.create(on: disk, StoreConfiguration(slotCount: 4, identity: StoreIdentity(low: 1, high: 2)))
        return disk
    }

    private func open(_ disk: SimulatedDisk) throws -> Store { try Store.open(disk, memory: .alone, indexBytes: 1 << 16) }

    private func commit(_ writer: StreamWriter, _ numbers: ClosedRange<UInt64>) throws {
        for number in numbers {
            try writer.begin(number)
            try PageContents.add(StreamScript.changes(number), to: writer)
            try writer.close(bytes: StreamScript.state(number), time: number)
        }
        try writer.flush()
    }

    /// What was acknowledged is there after the process has gone without a word, at every power cut from then on.
    @Test func isDurableWhenItReturns() throws {
        let disk = try makeDisk()
        disk.restartTrace()
        let store = try open(disk)
        let writer = try store.createStream(name: "one", time: 1)
        try commit(writer, 1...10)
        let wanted = try store.checkpoint(stream: "one", .number(4))
        let newest = try writer.goBack(to: wanted, time: 99, statistics: [1, 2, 3])
        let acknowledged = disk.eventCount
        #expect(newest.number == 11 && writer.lastNumber == 11 && writer.durableNumber == 11)
        try commit(writer, 12...12)
        var generator = SeededGenerator(seed: 7)
        var images = 0
        try disk.trace.forEachCut(using: &generator) { cut, loss, image in
            guard cut >= acknowledged else { return }
            images += 1
            let found = try open(SimulatedDisk(image))
            let latest = try found.checkpoint(stream: "one")
            #expect(latest.number >= 11, "cut \(cut), \(loss)")
            let reader = try found.checkpoint(stream: "one", .number(11))
            #expect(reader.time == 99 && reader.statistics == [1, 2, 3] && reader.name.isEmpty)
            #expect(try reader.state() == StreamScript.state(4))
            #expect(try reader.differences(from: found.checkpoint(stream: "one", .number(4))).isEmpty)
            #expect(try !reader.differences(from: found.checkpoint(stream: "one", .number(10))).isEmpty)
            #expect(try found.writer(for: "one").lastNumber == latest.number)
        }
        #expect(images > 10)
    }

    /// What it is made of is kept as long as it is the newest, whatever becomes of the checkpoint that was gone back to.
    @Test func outlivesWhatItWentBackTo() throws {
        let store = try open(try makeDisk())
        let writer = try store.createStream(name: "one", time: 1)
        try commit(writer, 1...10)
        try writer.goBack(to: try store.checkpoint(stream: "one", .number(4)), time: 99)
        try writer.drop(Array(1...10))
        try store.collect()
        #expect(try store.history("one").map(\.number) == [11])
        #expect(try store.checkpoint(stream: "one").state() == StreamScript.state(4))
        #expect(try store.scrub().findings.isEmpty)
    }

    /// A checkpoint that was dropped since somebody looked it up is refused before anything has changed; what is held is not dropped.
    @Test func whatIsChosenIsHeld() throws {
        let store = try open(try makeDisk())
        let writer = try store.createStream(name: "one", time: 1)
        try commit(writer, 1...10)
        let reader = try store.checkpoint(stream: "one", .number(3))
        try writer.thin(.last(5))
        #expect(throws: StoreError.noCheckpoint(stream: "one", wanted: "number 3")) { try writer.hold(3) }
        #expect(throws: StoreError.noCheckpoint(stream: "one", wanted: "number 3 to go back to")) { try writer.goBack(to: reader, time: 9) }
        #expect(writer.lastNumber == 10 && !writer.isBroken)
        try writer.hold(7)
        writer.keep(7)
        try commit(writer, 11...30)
        for expected in [[7, 29, 30], [7, 29, 30], [29, 30]] as [[UInt64]] {
            try writer.thin(.last(2))
            #expect(try writer.history().map(\.number) == expected)
            writer.letGo(7)
        }
    }

    /// Each operation of the disk fails in turn: the stream goes on from where it was, or is broken and opens again with either.
    @Test(arguments: [5, 27, 28] as [Int32]) func everyFailureLeavesOldOrNew(code: Int32) throws {
        for index in 1..<12 {
            let disk = try makeDisk()
            var isDone = false
            do {
                let store = try open(disk)
                let writer = try store.createStream(name: "one", time: 1)
                try commit(writer, 1...10)
                let reader = try store.checkpoint(stream: "one", .number(4))
                disk.setFaults(FaultPlan(index: index, kind: .code(code), isForEver: false, operations: [.write, .flush]))
                do throws(StoreError) {
                    try writer.goBack(to: reader, time: 99)
                    isDone = true
                } catch {
                    if error.isNoRoom { #expect(!writer.isBroken && writer.lastNumber == 10, "operation \(index)") }
                }
                disk.setFaults(nil)
                if !writer.isBroken, !isDone {
                    #expect(try writer.current(in: store)?.number == 10)
                    try commit(writer, 11...11)
                }
            }
            let latest = try open(disk).checkpoint(stream: "one")
            if isDone { #expect(try latest.number == 11 && latest.state() == StreamScript.state(4)) }
            #expect([10, 11].contains(latest.number), "operation \(index)")
        }
    }
}
