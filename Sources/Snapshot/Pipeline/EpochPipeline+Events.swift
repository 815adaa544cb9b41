import AuroraVMM
import Synchronization

/// What backends and the worker tell, and who waits for it.
extension EpochPipeline {
    func note(_ event: BackendEvent, from key: BackendKey) {
        switch event {
        case .progress: break
        case .durable(let epoch):
            deliver(state.withLock { $0.ledger.durable(epoch, at: key) })
            configuration.report(.durable(epoch, backend: key.name))
        case .failed(let error):
            // In this order: who is told of the failure, or finds the backend gone, finds the rest done.
            let isWanted = state.withLock { state in !state.isStopping && state.queues.contains { $0.key == key } }
            let pauses = isWanted && configuration.failurePolicy == .pauseGroup
            if pauses { pauseGuest() }
            configuration.report(.backendFailed(error, guestIsPaused: pauses))
            if !pauses { retire(key) }
        case .refuses(let error): settle(key, .backend(error))
        }
        wake.signal()
    }

    /// Lets a failed backend go.
    ///
    /// This is its queue's own activity, which cannot wait for itself.
    private func retire(_ key: BackendKey) {
        state.withLock { state in
            state.retired += state.queues.filter { $0.key == key }
            state.queues.removeAll { $0.key == key }
        }
    }

    /// Answers those who wait for a backend that will not take their epoch any more.
    func settle(_ key: BackendKey?, _ error: PipelineError) {
        deliver(state.withLock { $0.ledger.left(key, error, usable: $0.usableKeys) })
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
    func deliver(_ answers: [RequestLedger<AnswerWay>.Answer]) {
        for answer in answers { answer.asker.give(answer.result) }
    }
}
