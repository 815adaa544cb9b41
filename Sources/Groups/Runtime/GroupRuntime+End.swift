internal import AgentClient
internal import AgentProtocol
internal import CLinux
internal import Linux
import Synchronization

/// From the running program to the end of the machine.
extension GroupRuntime {
    /// How long the agent may take for an orderly end, and a killed program to disappear.
    private static let orderlyMilliseconds: Int64 = 10_000

    /// How far a group that was told to stop has come.
    private enum StopStage {
        case none
        /// Its last checkpoint is being made.
        case saving(graceSeconds: Int)
        case terminating
        case killing
    }

    /// The stage, and until when it may last.
    private struct Ending {
        var stage = StopStage.none
        var deadline: Int64?

        var millisecondsLeft: Int32 { deadline.map { Int32(clamping: max(0, $0 - clinux_monotonic_milliseconds())) } ?? -1 }

        mutating func enter(_ stage: StopStage, for milliseconds: Int64) {
            self.stage = stage
            deadline = clinux_monotonic_milliseconds() + milliseconds
        }
    }

    func waitForEnd(_ application: ApplicationSession, _ loop: EventLoop) throws -> ApplicationSession.Conclusion {
        var ending = Ending()
        while true {
            guard let event = events.next(timeoutMilliseconds: ending.millisecondsLeft) else {
                if let conclusion = timeIsOver(&ending, application, loop) { return conclusion }
                continue
            }
            switch event {
            case .session(let happening):
                if let conclusion = try sessionDid(happening, application, loop) { return conclusion }
                if case .started = happening { loop.run { application.confirmStart() } }
            case .rolledBack: try goOn(application, loop)
            case .machineEnded(let outcome): return try machineEnded(outcome)
            case .powerCut: return .exited(ExitStatus(.signal, UInt8(SIGKILL)))
            case .stop(let seconds): askedToStop(&ending, seconds)
            case .saved:
                if case .saving(let seconds) = ending.stage { terminate(&ending, seconds, application, loop) }
            }
        }
    }

    /// Who asks once more may grant less time than before.
    private func askedToStop(_ ending: inout Ending, _ seconds: Int) {
        switch ending.stage {
        case .none:
            ending.enter(.saving(graceSeconds: seconds), for: GroupRuntime.lastCheckpointMilliseconds)
            saveBeforeEnd()
        case .saving(let before): ending.stage = .saving(graceSeconds: min(before, seconds))
        case .terminating: ending.deadline = min(ending.deadline ?? .max, clinux_monotonic_milliseconds() + Int64(seconds) * 1000)
        case .killing: break
        }
    }

    private func terminate(_ ending: inout Ending, _ seconds: Int, _ application: ApplicationSession, _ loop: EventLoop) {
        ending.enter(.terminating, for: Int64(seconds) * 1000)
        let signal = configuration.stopSignal ?? SIGTERM
        loop.run { application.signal(signal) }
    }

    private func timeIsOver(
        _ ending: inout Ending, _ application: ApplicationSession, _ loop: EventLoop
    ) -> ApplicationSession.Conclusion? {
        switch ending.stage {
        case .none: break
        case .saving(let seconds):
            warn("No last checkpoint was made within \(GroupRuntime.lastCheckpointMilliseconds / 1000) s before the group was stopped")
            terminate(&ending, seconds, application, loop)
        case .terminating:
            ending.enter(.killing, for: GroupRuntime.orderlyMilliseconds)
            loop.run { application.signal(SIGKILL) }
        case .killing: return .exited(ExitStatus(.signal, UInt8(SIGKILL)))
        }
        return nil
    }

    private func sessionDid(
        _ happening: ApplicationSession.Happening, _ application: ApplicationSession, _ loop: EventLoop
    ) throws -> ApplicationSession.Conclusion? {
        switch happening {
        case .started(let number):
            update { $0.session = number }
            // Whoever is told that the program runs may ask for a checkpoint at once.
            try beginPersistence()
            // After a rollback it is said already, or somebody has paused the group meanwhile.
            update { if $0.state == .starting { $0.state = .running } }
            return nil
        case .cancelled: return .exited(ExitStatus(.signal, UInt8(SIGKILL)))
        case .refused(let failure): return refused(failure)
        case .exited(let exit):
            noteMemoryShortage(exit)
            if deliverAnswers() { shutDown() }
            return .exited(exit)
        case .lost(let reason): return try agentWasLost(reason, application, loop)
        }
    }

    /// How long a guest that ends may take to say so after its connections have.
    private static let explanationMilliseconds: Int32 = 1000

    /// A guest that ends takes its connections along, and so does one that is put back: that says more than the connection's end.
    private func agentWasLost(
        _ reason: String?, _ application: ApplicationSession, _ loop: EventLoop
    ) throws -> ApplicationSession.Conclusion? {
        if isRollingBack { return nil }
        let explanation = events.next(timeoutMilliseconds: GroupRuntime.explanationMilliseconds) { event in
            switch event {
            case .machineEnded, .powerCut, .rolledBack: true
            case .session, .stop, .saved: false
            }
        }
        switch explanation {
        case .machineEnded(let outcome): return try machineEnded(outcome)
        case .powerCut: return .exited(ExitStatus(.signal, UInt8(SIGKILL)))
        case .rolledBack:
            try goOn(application, loop)
            return nil
        case .session, .stop, .saved, nil: break
        }
        if isRollingBack { return nil }
        throw GroupError(.guest, "The connection to the guest's agent was lost\(reason.map { ": \($0)" } ?? "")", remedy: consoleRemedy)
    }

    /// Whether a rollback is under way, at the end of which the connection to the agent is made anew.
    private var isRollingBack: Bool { rollbacksOver.load(ordering: .acquiring) < rollbacks.load(ordering: .acquiring) }

    private func refused(_ failure: Failure) -> ApplicationSession.Conclusion {
        let message = GroupAgent.describe(failure)
        let code: Int32? =
            switch failure.code {
            case .commandNotFound: 127
            case .notExecutable: 126
            default: nil
            }
        update { status in
            status.state = .failed
            status.error = message
            status.exitCode = code
        }
        return .failed(Failure(failure.code, Text(message)))
    }

    private func machineEnded(_ outcome: MachineOutcome) throws -> ApplicationSession.Conclusion {
        switch outcome {
        case .powerOff: return .exited(ExitStatus(.code, 0))
        case .stopped: return .exited(ExitStatus(.signal, UInt8(SIGKILL)))
        case .reboot, .panic, .failed:
            throw GroupError(.guest, "The guest ended under its program: \(GroupRuntime.describe(outcome))", remedy: consoleRemedy)
        }
    }

    private func noteMemoryShortage(_ exit: ExitStatus) {
        // A shell reports the death of its child as a code of its own.
        guard exit.shellCode == 128 + SIGKILL, let tail = machine.withLock({ $0 })?.consoleTail,
            tail.contains("Out of memory") || tail.contains("oom-kill")
        else { return }
        warn("The guest ran out of memory and its kernel killed the program; give the group more with --memory")
    }

    /// How long connections may move nothing, and how long they may take in all, once the program has ended.
    private static let quietMilliseconds: Int64 = 1000
    private static let answersMilliseconds: Int64 = 10_000

    /// Lets clients of published ports have what the program sent before it ended: the guest's kernel, its agent and this process
    /// may hold it yet.
    ///
    /// Connections end with the program that has them; those that processes it left behind have are waited for only as long as they
    /// move something.
    /// - Returns: false when the machine has gone, or is to go at once.
    private func deliverAnswers() -> Bool {
        guard let forwarder = forwarder.withLock({ $0 }) else { return true }
        forwarder.stopAccepting()
        let begin = clinux_monotonic_milliseconds()
        var (bytes, moved) = (forwarder.answering.bytes, begin)
        while true {
            let (now, found) = (clinux_monotonic_milliseconds(), forwarder.answering)
            if found.connections == 0 { return true }
            if found.bytes != bytes { (bytes, moved) = (found.bytes, now) }
            guard now - moved < GroupRuntime.quietMilliseconds, now - begin < GroupRuntime.answersMilliseconds else { return true }
            switch events.next(timeoutMilliseconds: 2) {
            case .machineEnded, .powerCut: return false
            case .stop, .session, .rolledBack, .saved, nil: continue
            }
        }
    }

    /// Lets the guest write its volumes; without any there is nothing on its disks that outlives the group's processes.
    private func shutDown() {
        guard configuration.volumes.contains(where: { !$0.readOnly }) else { return }
        do {
            try GroupAgent.connect(directory).shutdown(ShutdownRequest(graceMilliseconds: 2000))
            let deadline = clinux_monotonic_milliseconds() + GroupRuntime.orderlyMilliseconds
            while clinux_monotonic_milliseconds() < deadline {
                switch events.next(timeoutMilliseconds: 1000) {
                case .machineEnded: return
                case .powerCut: return warn("The guest was stopped before it powered off; its volumes need a journal replay")
                case .stop, .session, .rolledBack, .saved, nil: continue
                }
            }
            warn("The guest did not power off in time and was stopped; its volumes need a journal replay")
        } catch {
            warn("The guest could not be shut down in order (\(error)); its volumes need a journal replay")
        }
    }
}
