import CLinux
import StoreSimulation
import Testing

@testable import Store

/// The N-th operation of a run fails, for every N, once and for ever: the error is clear, and what was acknowledged is there afterwards.
@Suite struct FaultTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var operation: DiskError.Operation
        var kind: FaultPlan.Kind
        var isForEver: Bool
        /// Every so many-th operation is tried: reads and locks are many.
        var step: Int
        var testDescription: String { "\(operation.rawValue) \(kind) \(isForEver ? "for ever" : "once")" }
    }
    static let cases = [
        Case(operation: .write, kind: .code(EIO), isForEver: false, step: 1),
        Case(operation: .write, kind: .code(ENOSPC), isForEver: true, step: 1),
        Case(operation: .write, kind: .short, isForEver: false, step: 1),
        Case(operation: .flush, kind: .code(EIO), isForEver: false, step: 1),
        Case(operation: .flush, kind: .code(EIO), isForEver: true, step: 1),
        Case(operation: .discard, kind: .code(EIO), isForEver: true, step: 1),
        Case(operation: .read, kind: .code(EIO), isForEver: false, step: 29),
        Case(operation: .read, kind: .short, isForEver: true, step: 41),
        Case(operation: .lock, kind: .code(ENOLCK), isForEver: false, step: 13),
    ]

    @Test(arguments: cases) func oldOrNewButNeverAMix(_ which: Case) throws {
        let first = Int.random(in: 1...which.step)
        var index = first
        var failed = 0
        while true {
            let disk = try CampaignCheck.makeDisk()
            let run = try CampaignRun(on: disk)
            disk.setFaults(FaultPlan(index: index, kind: which.kind, isForEver: which.isForEver, operations: [which.operation]))
            var failure: (any Error)?
            do { try run.runAll() } catch { failure = error }
            let wasHit = disk.operationCount >= index
            run.stop()
            disk.setFaults(nil)
            if wasHit {
                failed += 1
                let error = failure.map { "\($0)" } ?? ""
                #expect(failure == nil || failure is StoreError, "operation \(index) from \(first): \(error)")
            }
            try check(disk, run.model, "operation \(index)")
            guard wasHit else { break }
            index += which.step
        }
        // There are few discards: segments of living writers are left alone.
        #expect(failed > (which.operation == .discard ? 1 : 2), "only \(failed) operations failed")
    }

    /// After the process has ended: all there, clean, and of use again.
    private func check(_ disk: SimulatedDisk, _ model: CampaignModel, _ what: String) throws {
        let store = try Store.open(SimulatedDisk(disk.image), memory: .alone, indexBytes: 1 << 20)
        let found = try CampaignCheck.compare(store, model, at: .max - 1, thoroughly: false)
        #expect(found.isEmpty, "\(what)")
        try store.collect()
        for slot in try store.ground.slots() {
            let writer = try store.writer(for: slot.record.name)
            let number = writer.lastNumber + 1
            try writer.begin(number)
            try writer.close(bytes: [1], name: "", time: 9)
            try writer.flush(upTo: number)
        }
        #expect(try store.scrub().findingCount == 0, "\(what)")
    }
}
