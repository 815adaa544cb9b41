import AuroraVMM
import Synchronization

/// What backends and the thread tell, and who waits for it.
extension EpochPipeline {
    func note(_ event: BackendEvent, from name: String) {
        switch event {
        case .progress: break
        case .durable(let epoch):
            arrived(epoch, at: name)
            configuration.report(.durable(epoch, backend: name))
        case .failed(let error):
            // In this order: who is told of the failure, or finds the backend gone, finds the rest done.
            let isWanted = state.withLock { state in !state.isStopping && state.queues.contains { $0.backend.name == name } }
            let pauses = isWanted && configuration.failurePolicy == .pauseGroup
            if pauses { pauseGuest() }
            configuration.report(.backendFailed(error, guestIsPaused: pauses))
            if !pauses { retire(name) }
        case .refuses(let error): settle(name, .backend(error))
        }
        wake.signal()
    }

    /// Lets a failed backend go.
    ///
    /// This is its queue's own thread, which cannot wait for itself.
    private func retire(_ name: String) {
        state.withLock { state in
            state.retired += state.queues.filter { $0.backend.name == name }
            state.queues.removeAll { $0.backend.name == name }
        }
    }

    private func arrived(_ epoch: EpochNumber, at name: String) {
        deliver(state.withLock { $0.ledger.durable(epoch, at: name) })
    }

    /// Answers those who wait for a backend that will not take their epoch any more.
    func settle(_ name: String, _ error: PipelineError) {
        deliver(state.withLock { $0.ledger.left(name, error, usable: $0.usableNames) })
    }

    /// Ends all checkpoints, with a reason for everyone who waits.
    func fail(_ error: PipelineError, reporting: Bool = true) {
        let (answers, isFirst) = state.withLock { state in
            let isFirst = state.failure == nil
            state.failure = state.failure ?? error
            return (state.ledger.end(error), isFirst)
        }
        deliver(answers)
        if isFirst, reporting { configuration.report(.failed(error)) }
    }

    /// Without any lock: an asker may do what it likes.
    func deliver(_ answers: [RequestLedger<Asker>.Answer]) {
        for answer in answers { answer.asker(answer.result) }
    }
}
