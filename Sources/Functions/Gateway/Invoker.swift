internal import Synchronization

/// Has requests served by instances: reuses idle ones, starts new ones, makes requests wait, and ends what is not needed.
final class Invoker: Sendable {
    private let source: any InstanceSource
    private let limits: InvokerLimits
    private let shelf: Mutex<InstanceShelf>
    private let tickets = Atomic<UInt64>(0)
    private let isDraining = Atomic<Bool>(false)
    private let ends = EndTasks()

    init(source: any InstanceSource, limits: InvokerLimits) {
        self.source = source
        self.limits = limits
        shelf = Mutex(InstanceShelf(limits: limits))
    }

    /// Instances of one function: serving or starting, idle, and requests that wait.
    func counts(_ name: String) -> (active: Int, idle: Int, waiting: Int) { shelf.withLock { $0.counts(name) } }
    /// Instances and waiting requests of all functions.
    var totals: (active: Int, starting: Int, idle: Int, waiting: Int) {
        shelf.withLock { ($0.activeCount, $0.startingCount, $0.idleCount, $0.waiterCount) }
    }

    /// Serves a request.
    ///
    /// - Parameters:
    ///   - tenant: whose instance is to serve it; nil: the function has no tenants.
    ///   - concurrencyMax: requests of the function at once; nil: as many as the gateway takes.
    ///   - makeInvocation: makes the request once an instance is there, so that waiting does not shorten the function's time.
    /// - Throws: `InvokerError` when no instance was handed the request.
    func invoke(
        _ function: DeployedFunction, tenant: String? = nil, concurrencyMax: Int?, _ makeInvocation: @Sendable () -> Invocation
    ) async throws(InvokerError) -> Served {
        let clock = ContinuousClock()
        let arrival = clock.now
        var held = try await acquire(function, tenant, concurrencyMax)
        let turn = clock.now
        var start = StartKind.reused
        if held == nil {
            let started = try await self.start(function)
            start = started.startKind
            held = started
        }
        guard let instance = held else { throw .draining }
        let handover = clock.now
        let invocation = makeInvocation()
        let outcome = await serve(invocation, by: instance, function)
        let end = clock.now
        let memory = instance.privateBytes
        var log: [UInt8] = []
        if case .failure = outcome { log = instance.takeLog() }
        if case .success = outcome, !isDraining.load(ordering: .relaxed) {
            release(function, instance, tenant)
        } else {
            release(function, nil)
            ends.end(instance)
        }
        return Served(
            outcome: outcome, start: start, waited: arrival.nanoseconds(to: turn), restored: turn.nanoseconds(to: handover),
            served: handover.nanoseconds(to: end), privateBytes: memory, memoryPeakBytes: instance.memoryPeakBytes, log: log)
    }

    /// Ends idle instances of a function that changed or went.
    func forget(_ name: String) {
        let discarded = shelf.withLock { shelf in
            shelf.expire(before: .max, name: name)
            return shelf.takeDiscarded()
        }
        ends.end(discarded)
    }

    /// Ends instances that are idle for too long, and more while the host is short of memory.
    ///
    /// - Parameter memoryAvailable: bytes the host has left; nil: not known.
    func reclaim(memoryAvailable: Int?) {
        let before = MonotonicClock.nanoseconds - Int64(limits.idleSeconds) * 1_000_000_000
        let discarded = shelf.withLock { shelf in
            shelf.expire(before: before)
            if let memoryAvailable, memoryAvailable < limits.memoryAvailableMin {
                // A quarter at a time: what the kernel gets back shows at the next look.
                for _ in 0..<max(1, shelf.idleCount / 4) where !shelf.evictOldest() { break }
            }
            return shelf.takeDiscarded()
        }
        ends.end(discarded)
    }

    /// Refuses what waits and comes, and ends every idle instance; those that serve are ended when they have answered.
    func drain() async {
        isDraining.store(true, ordering: .relaxed)
        let (turns, discarded) = shelf.withLock { shelf in
            let turns = shelf.refuseAll(.draining)
            shelf.expire(before: .max)
            return (turns, shelf.takeDiscarded())
        }
        for turn in turns { turn() }
        ends.end(discarded)
        await ends.wait()
    }

    // MARK: - Having an instance

    /// An instance, or nil when the caller may start one.
    private func acquire(
        _ function: DeployedFunction, _ tenant: String?, _ concurrencyMax: Int?
    ) async throws(InvokerError) -> (any FunctionInstance)? {
        if isDraining.load(ordering: .relaxed) { throw .draining }
        let (grant, discarded) = shelf.withLock {
            ($0.arrive(function, tenant: tenant, concurrencyMax: concurrencyMax), $0.takeDiscarded())
        }
        ends.end(discarded)
        switch grant {
        case .instance(let instance): return instance
        case .start: return nil
        case .refused(let reason): throw .throttled(reason)
        case .wait: break
        }
        switch await wait(function, tenant) {
        case .instance(let instance): return instance
        case .start: return nil
        case .refused(let error): throw error
        }
    }

    private func wait(_ function: DeployedFunction, _ tenant: String?) async -> InstanceShelf.Turn {
        let ticket = tickets.wrappingAdd(1, ordering: .relaxed).newValue
        let name = function.name
        let alarm = Alarms.shared.set(milliseconds: limits.waitMilliseconds) { [self] in
            giveUp(ticket, name, .throttled("no instance was free within \(limits.waitMilliseconds) ms"))
        }
        defer { Alarms.shared.cancel(alarm) }
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let resume = OnceResumption(continuation)
                let waiter = InstanceShelf.Waiter(
                    ticket: ticket, revision: function.revision, tenant: tenant, bytes: function.memoryBytes
                ) { resume($0) }
                let (turns, discarded) = shelf.withLock { shelf in
                    shelf.add(waiter, name)
                    // Room may have come up between the refusal and now.
                    return (shelf.serveWaiters(first: name), shelf.takeDiscarded())
                }
                for turn in turns { turn() }
                ends.end(discarded)
                if Task.isCancelled { giveUp(ticket, name, .cancelled) }
                if isDraining.load(ordering: .relaxed) { giveUp(ticket, name, .draining) }
            }
        } onCancel: {
            giveUp(ticket, name, .cancelled)
        }
    }

    private func giveUp(_ ticket: UInt64, _ name: String, _ error: InvokerError) {
        shelf.withLock { $0.removeWaiter(ticket, name) }?.resume(.refused(error))
    }

    /// Starts an instance; the source has tried again what is worth it, so its failure is the request's.
    private func start(_ function: DeployedFunction) async throws(InvokerError) -> any FunctionInstance {
        if let reason = limits.room.refusal(function, limits) {
            startEnded()
            release(function, nil)
            // What nobody uses just now makes room for who comes next.
            reclaim(memoryAvailable: 0)
            throw .throttled(reason)
        }
        do throws(InstanceError) {
            let instance = try await source.start(function)
            startEnded()
            return instance
        } catch {
            startEnded()
            release(function, nil)
            throw .unavailable(error)
        }
    }

    private func startEnded() {
        let (turns, discarded) = shelf.withLock { shelf in
            shelf.started()
            return (shelf.serveWaiters(), shelf.takeDiscarded())
        }
        for turn in turns { turn() }
        ends.end(discarded)
    }

    private func release(_ function: DeployedFunction, _ instance: (any FunctionInstance)?, _ tenant: String? = nil) {
        let (turns, discarded) = shelf.withLock { shelf in
            let turns = shelf.leave(function, tenant: tenant, instance: instance, now: MonotonicClock.nanoseconds)
            return (turns, shelf.takeDiscarded())
        }
        for turn in turns { turn() }
        ends.end(discarded)
    }

    // MARK: - Serving

    /// Hands a request to an instance; one that says nothing after its time is given up.
    private func serve(
        _ invocation: Invocation, by instance: any FunctionInstance, _ function: DeployedFunction
    ) async -> Result<InvocationResult, InstanceError> {
        let milliseconds = function.timeoutSeconds * 1000
        let grace = limits.graceMilliseconds
        return await withCheckedContinuation { continuation in
            let resume = OnceResumption<Result<InvocationResult, InstanceError>>(continuation)
            let alarm = Alarms.shared.set(milliseconds: milliseconds + grace) { resume(.failure(.timedOut(milliseconds: milliseconds))) }
            Task {
                do throws(InstanceError) {
                    resume(.success(try await instance.invoke(invocation)))
                } catch {
                    resume(.failure(error))
                }
                Alarms.shared.cancel(alarm)
            }
        }
    }
}
