import CLinux
import StoreSimulation
import Testing

@testable import Store

/// The N-th write of a writer finds no room, for every N, once or until room is made: nothing acknowledged is lost, and the same writer
/// goes on.
@Suite struct NoRoomTests {
    /// Epochs of one stream, each given again until it is there; what was acknowledged is kept in mind.
    private final class Script {
        static let last: UInt64 = 66
        let disk: SimulatedDisk
        let store: Store
        let writer: StreamWriter
        /// Contents of the pages at each epoch.
        var closed: [UInt64: [UInt64: UInt64]] = [:]
        var acknowledged: Set<UInt64> = []
        var refusals = 0
        /// Acknowledged checkpoints with the events of the disk that they took.
        var known: [(event: Int, checkpoints: Set<UInt64>)] = []
        /// Calls that find no room before there is some again.
        private var patience: Int

        init(patience: Int) throws {
            self.patience = patience
            disk = try CampaignCheck.makeDisk()
            store = try Store.open(disk, memory: .alone, indexBytes: 1 << 20)
            writer = try store.createStream(name: "one", time: 1)
        }

        func runAll() throws {
            var pages: [UInt64: UInt64] = [:]
            for number in 1...Self.last {
                let large = number % 24 == 3
                for page in 0..<(large ? 40 : 3) as Range<UInt64> { pages[(number * 5 + page) % 64] = 2 * number * 100 + 2 * page + 1 }
                // A page that the store has already, and one of zeros.
                pages[100] = pages[number % 64]
                pages[101] = number % 2 == 0 ? 0 : number
                closed[number] = pages
                try findingRoom { try commit(number, pages) }
                acknowledged.insert(number)
                if number % 20 == 0 {
                    try findingRoom { _ = try writer.drop(olderThan: number - 9) }
                    acknowledged = acknowledged.filter { $0 >= number - 9 }
                    try findingRoom { try store.collect() }
                }
                known.append((disk.eventCount, acknowledged))
            }
        }

        private func commit(_ number: UInt64, _ pages: [UInt64: UInt64]) throws {
            if writer.lastNumber < number {
                do {
                    try writer.begin(number)
                    let changes = pages.sorted { $0.key < $1.key }
                    try PageContents.add(changes.map { (key: PageKey(rawValue: $0.key), seed: $0.value) }, to: writer)
                    try writer.close(bytes: CampaignCheck.state(number), time: number)
                } catch {
                    writer.abandon()
                    throw error
                }
            }
            try writer.flush()
        }

        /// As a group does it: space is given back, history thinned, what is free collected; then once more.
        private func findingRoom(_ body: () throws -> Void) throws {
            while true {
                do { return try body() } catch let error as StoreError {
                    guard error.isNoRoom, !writer.isBroken else { throw error }
                    refusals += 1
                    do throws(StoreError) {
                        try writer.yieldSpace()
                        try store.collect(within: SpaceBudget(storeBytes: 1 << 20), thinning: writer)
                        acknowledged = acknowledged.intersection(Set(try writer.history().map(\.number)))
                    } catch { guard error.isNoRoom, !writer.isBroken else { throw error } }
                    patience -= 1
                    if patience <= 0 { disk.setFaults(nil) }
                }
            }
        }

        func check(_ store: Store, _ what: String) throws {
            let found = Set(try store.history("one").map(\.number))
            #expect(acknowledged.isSubset(of: found), "\(what): lost \(acknowledged.subtracting(found).sorted())")
            #expect(found.max() == Self.last, "\(what)")
            for number in found.sorted().suffix(2) + found.sorted().prefix(2) { try check(store, number, what) }
            let report = try store.scrub()
            #expect(report.findingCount == 0, "\(what): \(report.findings)")
        }

        func check(_ store: Store, _ number: UInt64, _ what: String) throws {
            let reader = try store.checkpoint(stream: "one", .number(number))
            #expect(try reader.state() == CampaignCheck.state(number), "\(what), checkpoint \(number)")
            for (page, seed) in closed[number] ?? [:] {
                let bytes = try PageContents.read(PageKey(rawValue: page), from: reader)
                #expect(bytes == PageContents.bytes(seed), "\(what), page \(page) of checkpoint \(number)")
            }
        }
    }

    private static let seed = UInt64.random(in: 0 ... .max)

    /// Half-way through means that the commit block itself is there and what it refers to is not.
    @Test(arguments: zip([.code(ENOSPC), .partial(EDQUOT)] as [FaultPlan.Kind], [4, 1]))
    func theSameWriterGoesOn(kind: FaultPlan.Kind, patience: Int) throws {
        var index = 0
        var refusals = 0
        while true {
            index += 1
            let script = try Script(patience: patience)
            script.disk.restartTrace(recording: false)
            script.disk.setFaults(FaultPlan(index: index, kind: kind, isForEver: patience > 1, operations: [.write]))
            let what = "\(kind) at write \(index), \(patience) times"
            do { try script.runAll() } catch { Issue.record("\(what): \(error)") }
            let wasHit = script.disk.operationCount >= index || script.refusals > 0
            script.disk.setFaults(nil)
            try script.check(script.store, what)
            refusals += script.refusals
            guard wasHit else { break }
            // After the process has died, all is there, and the space is not lost.
            let again = try Store.open(SimulatedDisk(script.disk.image), memory: .alone, indexBytes: 1 << 20)
            _ = try again.writer(for: "one")
            try again.collect()
            try script.check(again, "\(what), opened again")
        }
        #expect(refusals > 50, "only \(refusals) times there was no room")
    }

    /// Power is cut at every write of runs that met a full disk.
    @Test func powerCutsAfterwards() throws {
        var generator = SeededGenerator(seed: Self.seed)
        for _ in 0..<2 {
            let index = Int.random(in: 1...150, using: &generator)
            let script = try Script(patience: 2)
            script.disk.setFaults(FaultPlan(index: index, kind: .partial(ENOSPC), isForEver: false, operations: [.write]))
            try script.runAll()
            script.disk.setFaults(nil)
            let start = script.known[0].event
            try script.disk.trace.forEachCut(using: &generator) { cut, loss, image in
                guard cut >= start else { return }
                let what = "seed \(Self.seed), write \(index), cut \(cut), loss \(loss)"
                let store = try Store.open(SimulatedDisk(image), memory: .alone, indexBytes: 1 << 20)
                let found = try store.history("one").map(\.number)
                let before = script.known.last { $0.event <= cut }?.checkpoints.max() ?? 0
                #expect(found.max() ?? 0 >= before, "\(what): lost what was acknowledged")
                if let last = found.last { try script.check(store, last, what) }
            }
        }
    }
}
