import StoreSimulation
import Testing

@testable import Store

/// Every operation of the disk fails in turn, and power is cut between any two.
@Suite struct StreamFaultTests {
    private func makeDisk() throws -> SimulatedDisk {
        let disk = SimulatedDisk(byteCount: 64 << 20)
        try Store.create(on: disk, StoreConfiguration(slotCount: 4, identity: StoreIdentity(low: 1, high: 2)))
        return disk
    }

    private func open(_ disk: SimulatedDisk) throws -> Store { try Store.open(disk, memory: .alone, indexBytes: 1 << 16) }

    @Test(arguments: [(.code(5), false), (.code(28), true), (.short, false)] as [(FaultPlan.Kind, Bool)])
    func everyFailureLeavesOldOrNew(kind: FaultPlan.Kind, isForEver: Bool) throws {
        var index = 0
        var failures = 0
        while true {
            index += 1
            let disk = try makeDisk()
            disk.restartTrace(recording: false)
            var progress = StreamScript.Progress()
            do {
                let store = try open(disk)
                disk.setFaults(FaultPlan(index: index, kind: kind, isForEver: isForEver, operations: [.write, .flush, .read]))
                do { try StreamScript.run(store, &progress) } catch {
                    #expect(error is StoreError && !"\(error)".isEmpty)
                    failures += 1
                }
            }
            let reached = disk.operationCount >= index
            disk.setFaults(nil)
            let store = try open(disk)
            try StreamScript.check(store, progress, "operation \(index)")
            try goOn(store, "operation \(index)")
            if !reached { break }
        }
        #expect(failures > 100)
    }

    /// Whatever happened, the stream can be written on.
    private func goOn(_ store: Store, _ comment: Comment) throws {
        guard try store.streams().contains(where: { $0.name == "first" }) else { return }
        let writer = try store.writer(for: "first")
        let before = try store.history("first").count
        try writer.begin(100)
        try PageContents.add([(PageKey(rawValue: 1), 77)], to: writer)
        try writer.close(bytes: [1], time: 100)
        try writer.flush()
        let reader = try store.checkpoint(stream: "first")
        #expect(reader.number == 100, comment)
        #expect(try PageContents.read(PageKey(rawValue: 1), from: reader) == PageContents.bytes(77), comment)
        #expect(try store.history("first").count == before + 1, comment)
    }

    @Test(arguments: [1, 2] as [UInt64])
    func everyPowerCutLeavesOldOrNew(seed: UInt64) throws {
        let disk = try makeDisk()
        disk.restartTrace()
        var known: [(cut: Int, progress: StreamScript.Progress)] = []
        var progress = StreamScript.Progress()
        try StreamScript.run(try open(disk), &progress) { known.append((disk.eventCount, $0)) }
        var generator = SeededGenerator(seed: seed)
        var images = 0
        try disk.trace.forEachCut(using: &generator) { cut, loss, image in
            images += 1
            var there = known.last { $0.cut <= cut }?.progress ?? StreamScript.Progress()
            // What was begun meanwhile may be there, too.
            there.attempted = StreamScript.epochs
            let comment: Comment = "seed=\(seed) cut=\(cut) loss=\(loss)"
            let store = try open(SimulatedDisk(image))
            try StreamScript.check(store, there, comment)
            if images % 8 == 0 { try goOn(store, comment) }
        }
        #expect(images > 200)
    }

    @Test func aFullStoreSaysSoAndGoesOnAfterRoomWasMade() throws {
        let disk = try makeDisk()
        let store = try open(disk)
        let writer = try store.createStream(name: "hog", time: 1)
        try writer.begin(1)
        try PageContents.add([(PageKey(rawValue: 1), 3)], to: writer)
        try writer.close(time: 1)
        try writer.flush()
        var error: StoreError?
        try writer.begin(2)
        for page in UInt64(0)..<20000 where error == nil {
            do throws(any Error) { try PageContents.add([(PageKey(rawValue: page), 1001 + page * 2)], to: writer) } catch let thrown {
                error = thrown as? StoreError
            }
        }
        guard case .full = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(error?.description.contains("aurora gc") == true)
        #expect(throws: StoreError.self, "the epoch cannot be closed any more") { try writer.close(time: 2) }
        writer.abandon()
        #expect(!writer.isBroken)
        let reader = try store.checkpoint(stream: "hog")
        #expect(reader.number == 1)
        #expect(try PageContents.read(PageKey(rawValue: 1), from: reader) == PageContents.bytes(3))
    }

    /// A kernel may forget that pages are dirty whose flush failed: opening again writes them once more.
    @Test(arguments: 1...20)
    func whatAFailedFlushLeftIsWrittenAgain(seed: UInt64) throws {
        let disk = try makeDisk()
        disk.restartTrace()
        do {
            let writer = try open(disk).createStream(name: "first", time: 1)
            for number in UInt64(1)...9 {
                try writer.begin(number)
                try PageContents.add(StreamScript.changes(number), to: writer)
                try writer.close(bytes: StreamScript.state(number), time: number)
                if number == 5 { try writer.flush() }
            }
            disk.setFaults(FaultPlan(index: 1, kind: .code(5), isForEver: false, operations: [.flush]))
            #expect(throws: StoreError.self) { try writer.flush() }
        }
        disk.setFaults(nil)
        let writer = try open(disk).writer(for: "first")
        #expect(writer.durableNumber == 9)
        let acknowledged = disk.eventCount
        var generator = SeededGenerator(seed: seed)
        try disk.trace.forEachCut(using: &generator) { cut, loss, image in
            guard cut >= acknowledged else { return }
            let store = try open(SimulatedDisk(image))
            let latest = try store.checkpoint(stream: "first").number
            #expect(latest == 9, "seed=\(seed) cut=\(cut) loss=\(loss)")
            for number in UInt64(1)...latest { try StreamScript.check(store, "first", number, "seed=\(seed) cut=\(cut) loss=\(loss)") }
        }
    }

    @Test func afterAFailedFlushNothingIsPretended() throws {
        let disk = try makeDisk()
        let store = try open(disk)
        let writer = try store.createStream(name: "first", time: 1)
        try writer.begin(1)
        try writer.close(bytes: [1], time: 1)
        disk.setFaults(FaultPlan(index: 1, kind: .code(5), isForEver: false, operations: [.flush]))
        #expect(throws: StoreError.self) { try writer.flush() }
        #expect(writer.isBroken && writer.durableNumber == 0)
        let error = #expect(throws: StoreError.self) { try writer.begin(2) }
        #expect(error?.description.contains("until it is opened again") == true)
        #expect(throws: StoreError.self) { try writer.flush() }
    }
}
