import CLinux
import Groups
import Linux
import Snapshot
import Synchronization

/// Looks at a group's checkpoints all the time, from a thread that makes none, and tells when they are not made as promised.
final class HealthWatch: Sendable {
    /// Between two looks: with `CheckpointHealth.grace` less than a second.
    private static let lookMicroseconds: UInt32 = 200_000

    private let hasEnded = Atomic(false)

    /// Begins to look.
    ///
    /// - Parameter machine: called for it; the watch ends with it.
    /// - Throws: `SystemError` when there is no thread to be had.
    init(_ machine: GroupMachineOfStore) throws(SystemError) {
        try DetachedThread.start("health") { @Sendable [self, weak machine] in
            var teller = HealthTeller()
            while !hasEnded.load(ordering: .acquiring), machine?.tellHealth(&teller) != nil { usleep(HealthWatch.lookMicroseconds) }
        }
    }

    /// Ends it within a moment; nobody waits.
    func end() { hasEnded.store(true, ordering: .releasing) }
}

extension GroupMachineOfStore {
    func watchHealth() throws {
        let isFirst = state.withLock { $0.healthWatch == nil }
        guard isFirst else { return }
        let watch = try HealthWatch(self)
        state.withLock { $0.healthWatch = watch }
    }

    /// How the checkpoints go now; waits for nobody who makes them.
    var health: CheckpointHealth {
        let (pipeline, history, period, hasBegun) = state.withLock { ($0.pipeline, $0.history, $0.period, $0.hasBegun) }
        guard let pipeline else {
            return CheckpointHealth(CheckpointHealth.Facts(now: 0, period: nil, promisedSince: 0, backends: []))
        }
        let progress = pipeline.progress
        let backends = pipeline.backends.map { status in
            var backend = CheckpointHealth.Backend(
                name: status.name, durableStop: status.durableStop, inFlight: status.epochsInFlight, busySince: status.busySince)
            backend.failure = status.failure?.description
            if status.name == StoreBackend.name { backend.waitsFor = history?.waitsForRoom }
            return backend
        }
        var facts = CheckpointHealth.Facts(
            now: progress.now, period: progress.period, promisedSince: progress.promisedSince, backends: backends)
        facts.isHeld = progress.period == nil && (period.microseconds != nil || !hasBegun)
        facts.rate = pipeline.recentFigures.rate
        facts.activity = "\(progress.activity)"
        facts.failure = CheckpointHealth.failure(progress.failure)
        return CheckpointHealth(facts)
    }

    /// Tells what has changed.
    func tellHealth(_ teller: inout HealthTeller) {
        guard let message = teller.look(health, now: clinux_clock_ns(CLOCK_MONOTONIC)) else { return }
        environment.tell(.health, message.text)
        if message.isWarning { environment.warn(message.text) } else { EngineMessage.write(message.text) }
    }
}

extension CheckpointHealth {
    /// Why no checkpoints are made; a pipeline that was ended, by the end of the group or a rollback, has not failed.
    fileprivate static func failure(_ error: PipelineError?) -> String? {
        switch error {
        case nil, .stopped, .ended: nil
        case let error?: "\(error)"
        }
    }
}
