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
        case .refuses(let error): settle(name, .failure(.backend(error)))
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
        let done = state.withLock { state in
            for index in state.waiters.indices where state.waiters[index].epoch <= epoch { state.waiters[index].backends.remove(name) }
            let done = state.waiters.filter { $0.backends.isEmpty }
            state.waiters.removeAll { $0.backends.isEmpty }
            return done
        }
        for waiter in done { waiter.continuation.resume(returning: .success(waiter.epoch)) }
    }

    /// Answers those who wait for a backend that will not take their epoch any more.
    func settle(_ name: String, _ result: Result<EpochNumber, PipelineError>) {
        let (waiters, requests) = state.withLock { state in
            let waiters = state.waiters.filter { $0.backends.contains(name) }
            state.waiters.removeAll { $0.backends.contains(name) }
            let isHopeless = { (request: Request) in request.backend == name || state.queues.allSatisfy { $0.failure != nil } }
            let requests = state.requests.filter(isHopeless)
            state.requests.removeAll(where: isHopeless)
            return (waiters, requests)
        }
        for waiter in waiters { waiter.continuation.resume(returning: result) }
        for request in requests { request.continuation.resume(returning: result) }
    }

    /// Ends all checkpoints, with a reason for everyone who waits.
    func fail(_ error: PipelineError, reporting: Bool = true) {
        let (waiters, requests, isFirst) = state.withLock { state in
            let result = (state.waiters, state.requests, state.failure == nil)
            state.waiters = []
            state.requests = []
            state.failure = state.failure ?? error
            return result
        }
        for waiter in waiters { waiter.continuation.resume(returning: .failure(error)) }
        for request in requests { request.continuation.resume(returning: .failure(error)) }
        if isFirst, reporting { configuration.report(.failed(error)) }
    }
}
