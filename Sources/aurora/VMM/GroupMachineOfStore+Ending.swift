import AuroraVMM
import Groups
import Linux
import Snapshot
import Store
import Synchronization

/// How the machine of a group ends, and its last checkpoint before that.
extension GroupMachineOfStore {
    /// The last checkpoint of a group that is about to be stopped is the newest one of its history: the clock makes none after it.
    func takeLast() throws {
        let pipeline = state.withLock { state -> EpochPipeline? in
            guard state.history != nil, state.hasBegun else { return nil }
            state.isClosed = true
            return state.pipeline
        }
        guard let pipeline else { return }
        pipeline.setCheckpointsPaused(true)
        do { _ = try take(pipeline, nil) } catch {
            state.withLock { $0.isClosed = false }
            applyPeriod(pipeline)
            throw error
        }
    }

    /// Ends the machine at once, and keeps the reason for whoever asks how it ended.
    func end(because reason: String) {
        state.withLock { $0.lossReason = $0.lossReason ?? reason }
        machine.stop()
    }

    /// Why the machine was ended from here; empty for one that was not.
    var lossReason: String { state.withLock { $0.lossReason ?? "" } }

    func whenEnded(_ report: @escaping @Sendable (MachineOutcome) -> Void) {
        let machine = machine
        Task.detached { [weak self] in
            let outcome = GroupMachineOfStore.outcome(await machine.waitUntilEnded())
            guard outcome == .stopped, let reason = self?.lossReason, !reason.isEmpty else { return report(outcome) }
            report(.failed(reason))
        }
    }

    private static func outcome(_ end: MachineEnd) -> MachineOutcome {
        switch end {
        case .powerOff: .powerOff
        case .reboot: .reboot
        case .panic(let tail): .panic(reason(in: tail))
        case .tripleFault: .failed("triple fault")
        case .failed(let reason): .failed(reason)
        case .stopped: .stopped
        }
    }

    /// The line of a panic that says why.
    private static func reason(in lines: [String]) -> String {
        let line = lines.last { $0.contains("Kernel panic") } ?? lines.last ?? "no reason given"
        return line.firstRange(of: "Kernel panic").map { String(line[$0.lowerBound...]) } ?? line
    }
}
