public import Linux
import Synchronization

/// The pool of machines made ahead: restores an instance of a function in one of them.
public final class InstancePool: InstanceSource {
    private struct State {
        var runtimes: [String: RuntimePool] = [:]
        var launches: [String: Task<Result<FunctionLaunch, InstanceError>, Never>] = [:]
        /// Those of them that were found.
        var found: [String: FunctionLaunch] = [:]
        var starts: [String: Int] = [:]
        var ledger = LaunchLedger()
        var isTrimming = false
        var isEnded = false
    }
    /// Times that a launch image is looked up again which was removed right before it was claimed.
    private static let claimsMax = 4
    private static let launchesMax = 4096
    private static let scoutPeriod = 64
    /// What the guest's own system may write to the disk beyond what its function was promised.
    private static let scratchMiBBeyond = 256

    private let provider: any LaunchProvider
    private let configuration: PoolConfiguration
    private let loop: EventLoop
    private let state = Mutex(State())
    /// Held while a launch image is removed that nobody uses: a lookup that names one comes before, and it stays, or finds it gone.
    private let removing = Mutex(())

    /// Makes an empty pool; machines are made from the first start of a runtime's function on.
    ///
    /// - Throws: `SystemError` when there is no room for a thread.
    public init(_ provider: any LaunchProvider, _ configuration: PoolConfiguration = PoolConfiguration()) throws(SystemError) {
        self.provider = provider
        self.configuration = configuration
        loop = try EventLoop(name: "pool")
    }

    /// Restores an instance of a deployed function; a machine in which that fails is thrown away, and another one tried once.
    ///
    /// - Throws: `InstanceError.restore`.
    public func start(_ function: DeployedFunction) async throws(InstanceError) -> any FunctionInstance {
        do throws(InstanceError) { return try await attempt(function) } catch {
            // The launch images may have gone or been damaged: they are looked at again, and made again.
            forget(function)
            return try await attempt(function, again: true)
        }
    }

    private func attempt(_ function: DeployedFunction, again: Bool = false) async throws(InstanceError) -> PooledInstance {
        let (launch, lease) = try await claim(function)
        let runtime = try runtime(launch.runtime)
        runtime.prepare(launch.digest)
        let (machine, kind) = try await runtime.take(for: launch.digest, fresh: again)
        // Now and then without the working set, to see whether it still fits.
        let isScout = state.withLock { state in
            state.starts[launch.digest, default: 0] += 1
            return (state.starts[launch.digest] ?? 0) % InstancePool.scoutPeriod == 0
        }
        var request = InstanceRequest(.restore, launch: launch.digest, populates: !isScout)
        request.scratchBytes = function.scratchMiB.map { ($0 + InstancePool.scratchMiBBeyond) << 20 }
        let report = await machine.request(request, seconds: configuration.machineSeconds)
        guard let report, report.kind == .running else {
            machine.close()
            throw .restore(report?.reason ?? (machine.reason.isEmpty ? "the machine ended" : machine.reason))
        }
        do throws(SystemError) {
            let records = (report.workingSet?.populated ?? 0) == 0
            return try PooledInstance(function, machine, kind, report.times, configuration, loop: loop, lease: lease) {
                guard records else { return }
                machine.send(InstanceRequest(.record)) { [weak runtime] _ in runtime?.prepare(launch.digest, again: true) }
            }
        } catch {
            machine.close()
            throw .restore("\(error)")
        }
    }

    /// Makes machines for a function ahead of its first request, and its launch images if need be.
    ///
    /// - Throws: `InstanceError.restore`.
    public func prepare(_ function: DeployedFunction) async throws(InstanceError) {
        let (launch, lease) = try await claim(function)
        let runtime = try runtime(launch.runtime)
        runtime.prepare(launch.digest)
        runtime.fill()
        withExtendedLifetime(lease) {}
    }

    /// Removes launch images that no function needs, and ends the machines made ahead for runtimes that none has.
    ///
    /// An instance that is started from an image removed meanwhile makes it again.
    ///
    /// - Throws: `InstanceError.restore` when the store does not tell what is of use.
    public func tidy(keeping functions: @escaping @Sendable () -> [DeployedFunction]) async throws(InstanceError) {
        let provider = provider
        let kept = try await InstancePool.onThread { [self] () throws(InstanceError) in
            try provider.removeUnused { [self] in
                let functions = functions()
                return (functions, keep(functions))
            }
        }.get()
        let idle = state.withLock { state in
            let idle = state.runtimes.filter { !kept.contains($0.key) && $0.value.isIdle }
            for base in idle.keys { state.runtimes[base] = nil }
            return idle.values
        }
        for runtime in idle { runtime.end() }
        _ = await InstancePool.onThread { [self] () throws(InstanceError) in trim() }
    }

    /// Forgets what is known of all functions but some; the launch images of these.
    private func keep(_ functions: [DeployedFunction]) -> [FunctionLaunch] {
        let keys = Set(functions.map { InstancePool.key($0) })
        return state.withLock { state in
            state.launches = state.launches.filter { keys.contains($0.key) }
            state.found = state.found.filter { keys.contains($0.key) }
            let digests = Set(state.found.values.map(\.digest))
            state.starts = state.starts.filter { digests.contains($0.key) }
            state.ledger.keep(digests.union(state.found.values.map(\.runtime)))
            return Array(state.found.values)
        }
    }

    /// Machines that are ready, being made, and alive in all, over all runtimes.
    public var counts: (ready: Int, making: Int, alive: Int) {
        state.withLock { Array($0.runtimes.values) }.map(\.counts).reduce((0, 0, 0)) {
            ($0.0 + $1.ready, $0.1 + $1.making, $0.2 + $1.alive)
        }
    }

    /// Ends all hosts and machines.
    public func end() {
        let runtimes = state.withLock { state in
            state.isEnded = true
            defer { state.runtimes = [:] }
            return Array(state.runtimes.values)
        }
        for runtime in runtimes { runtime.end() }
        loop.stop()
    }

    // MARK: - Launch images and runtimes

    private static func key(_ function: DeployedFunction) -> String {
        "\(function.name) \(function.revision) \(function.image) \(function.memoryBytes)"
    }

    private func forget(_ function: DeployedFunction) {
        let key = InstancePool.key(function)
        state.withLock { ($0.launches[key], $0.found[key]) = (nil, nil) }
    }

    /// The launch images of a function: looked up by one at a time, on a thread of its own.
    private func launch(_ function: DeployedFunction) async throws(InstanceError) -> FunctionLaunch {
        let key = InstancePool.key(function)
        let task = state.withLock { state in
            if let task = state.launches[key] { return task }
            if state.launches.count >= InstancePool.launchesMax { (state.launches, state.found, state.starts) = ([:], [:], [:]) }
            let provider = provider
            let task = Task<Result<FunctionLaunch, InstanceError>, Never> { [self] in
                await InstancePool.onThread { () throws(InstanceError) in
                    var claimed: [String] = []
                    defer { for digest in claimed { self.release(digest) } }
                    return try provider.launch(function) { digest in
                        claimed.append(digest)
                        self.removing.withLock { _ in self.state.withLock { $0.ledger.claim(digest) } }
                    }
                }
            }
            state.launches[key] = task
            return task
        }
        switch await task.value {
        case .success(let launch):
            state.withLock { state in if state.launches[key] == task { state.found[key] = launch } }
            return launch
        case .failure(let error):
            forget(function)
            throw error
        }
    }

    // MARK: - What launch images take of the disk

    /// The launch images of a function, which are in use from now on until the lease goes.
    private func claim(_ function: DeployedFunction) async throws(InstanceError) -> (FunctionLaunch, LaunchLease) {
        let key = InstancePool.key(function)
        for _ in 0..<InstancePool.claimsMax {
            let launch = try await launch(function)
            let isClaimed = state.withLock { state in
                guard state.found[key] == launch else { return false }
                for digest in [launch.runtime, launch.digest] { state.ledger.claim(digest) }
                return true
            }
            guard isClaimed else { continue }
            note(launch)
            return (
                launch,
                LaunchLease { [weak self] in
                    for digest in [launch.digest, launch.runtime] { self?.release(digest) }
                }
            )
        }
        throw .restore("its launch image was removed each time before it could be used")
    }

    /// Ends a use; what is over the bound only because it was used goes now.
    private func release(_ digest: String) {
        let isFree = state.withLock { state in
            state.ledger.release(digest)
            return !state.ledger.isInUse(digest)
        }
        if isFree { trimLater() }
    }

    /// Notes a use and what is new on the disk.
    private func note(_ launch: FunctionLaunch) {
        let (isNew, mustNote) = state.withLock { state in
            let isNew = [launch.runtime, launch.digest].filter { state.ledger.bytes(of: $0) == nil }
            return (isNew, state.ledger.mustNote(launch.digest, now: MonotonicClock.nanoseconds))
        }
        if mustNote { provider.noteUse(of: launch) }
        for digest in isNew {
            let bytes = provider.bytes(ofLaunchImage: digest)
            state.withLock { $0.ledger.note(digest, bytes: bytes) }
        }
        if !isNew.isEmpty { trimLater() }
    }

    /// Has room made in the background when the cache has grown beyond its bound.
    private func trimLater() {
        let begins = state.withLock { state in
            guard !state.isTrimming, !state.isEnded, state.ledger.bytes > configuration.launchBytesMax else { return false }
            state.isTrimming = true
            return true
        }
        guard begins else { return }
        Task {
            _ = await InstancePool.onThread { [self] () throws(InstanceError) in trim() }
            self.state.withLock { $0.isTrimming = false }
        }
    }

    /// Removes launch images that nobody uses, those used longest ago first, until the rest fits.
    private func trim() {
        let (kept, removed) = provider.trim(to: configuration.launchBytesMax) { digest, remove in
            removing.withLock { _ in
                guard letGo(digest) else { return false }
                remove()
                return true
            }
        }
        state.withLock { $0.ledger.note(kept: kept, removed: removed) }
    }

    /// Forgets a launch image that nobody uses; false: it is in use.
    private func letGo(_ digest: String) -> Bool {
        state.withLock { state in
            guard !state.ledger.isInUse(digest), state.runtimes[digest] == nil,
                state.runtimes.values.allSatisfy({ $0.forget(digest) })
            else { return false }
            for (key, launch) in state.found where launch.digest == digest || launch.runtime == digest {
                (state.found[key], state.launches[key]) = (nil, nil)
            }
            return true
        }
    }

    /// How full the cache of launch images is.
    public var launchCache: LaunchCacheReport? {
        state.withLock { state in
            LaunchCacheReport(
                images: state.ledger.count, bytes: state.ledger.bytes, bytesMax: configuration.launchBytesMax,
                evicted: state.ledger.evicted)
        }
    }

    /// Bytes of a function's own launch image; nil: there is none that is known of.
    public func launchBytes(of function: DeployedFunction) -> Int? {
        state.withLock { state in state.found[InstancePool.key(function)].flatMap { state.ledger.bytes(of: $0.digest) } }
    }

    /// Runs what blocks on a thread of its own.
    private static func onThread<Value: Sendable>(
        _ body: @escaping @Sendable () throws(InstanceError) -> Value
    ) async -> Result<Value, InstanceError> {
        await withCheckedContinuation { continuation in
            do throws(SystemError) {
                try DetachedThread.start("launch images") {
                    do throws(InstanceError) { continuation.resume(returning: .success(try body())) } catch {
                        continuation.resume(returning: .failure(error))
                    }
                }
            } catch { continuation.resume(returning: .failure(.restore("\(error)"))) }
        }
    }

    private func runtime(_ base: String) throws(InstanceError) -> RuntimePool {
        let runtime = state.withLock { state -> RuntimePool? in
            if let runtime = state.runtimes[base] { return runtime }
            guard !state.isEnded else { return nil }
            let runtime = RuntimePool(base: base, launchPath: provider.launchPath, configuration, loop: loop)
            state.runtimes[base] = runtime
            return runtime
        }
        guard let runtime else { throw .restore("the pool has ended") }
        return runtime
    }
}
