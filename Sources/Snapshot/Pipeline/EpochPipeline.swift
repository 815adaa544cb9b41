internal import AuroraVMM
internal import Linux
import Synchronization

/// Makes checkpoints of a running machine, again and again, and hands them to backends.
///
/// One activity a group does it, a thread of its own: see `EpochWorker` for the life of an epoch. Each backend has another.
public final class EpochPipeline: Sendable {
    let machine: any CheckpointableMachine
    let configuration: PipelineConfiguration
    let scheduler: any PipelineScheduler
    let state: Mutex<State>
    let wake: WakeSignal
    let pool: PagePool
    /// What the worker is at, and since when; nanoseconds of the monotonic clock.
    let doing: Mutex<(activity: PipelineActivity, since: Int64)>
    private let run: Mutex<(any PipelineActivityRun)?>
    /// While the guest is to stand still.
    private let held = Mutex<LastingRest?>(nil)

    /// What the callers and the activities share.
    struct State: ~Copyable {
        var queues: [BackendQueue] = []
        /// Queues that failed, until somebody can wait for their threads.
        var retired: [BackendQueue] = []
        var period: CheckpointPeriod
        var isPaused = false
        var isStopping = false
        var failure: PipelineError?
        /// Checkpoints that somebody waits for.
        var ledger = RequestLedger<AnswerWay>()
        var last: EpochNumber
        var history = StatisticsHistory()
        /// Since when checkpoints are to be made as they are now: by this period, to these backends.
        var promisedSince: Int64
        private var queuesEver: UInt64 = 0

        init(period: CheckpointPeriod, last: EpochNumber, now: Int64) {
            self.period = period
            self.last = last
            promisedSince = now
        }

        /// A number that no backend had before.
        mutating func nextQueueNumber() -> UInt64 {
            queuesEver += 1
            return queuesEver
        }

        /// Backends that can take an epoch; the others wait until their base is complete.
        var readyKeys: Set<BackendKey> { Set(queues.filter(\.isReady).map(\.key)) }
        /// Backends that have not failed.
        var usableKeys: Set<BackendKey> { Set(queues.filter { $0.failure == nil }.map(\.key)) }
    }

    /// Called once, on any thread, with what became of a request.
    public typealias Asker = @Sendable (Result<EpochNumber, PipelineError>) -> Void

    /// Starts the pipeline; without a backend it makes no checkpoints.
    ///
    /// - Throws: `PipelineError.system` when the host has no room.
    public init(
        _ machine: any CheckpointableMachine, _ configuration: PipelineConfiguration = PipelineConfiguration()
    ) throws(PipelineError) {
        self.machine = machine
        self.configuration = configuration
        let scheduler = configuration.scheduler
        self.scheduler = scheduler
        let wake = WakeSignal()
        self.wake = wake
        let now = scheduler.now
        state = Mutex(State(period: configuration.period, last: configuration.lastEpoch, now: now))
        doing = Mutex((.rests, now))
        run = Mutex(nil)
        do throws(SystemError) {
            pool = try PagePool(bytes: configuration.poolBytes, bytesMin: configuration.poolBytesMin) { wake.signal() }
            let worker = EpochWorker(self, try PageCollector(machine.memory, pool: pool))
            let started = try scheduler.start("checkpoints", isUrgent: true, wake: wake) { @Sendable in worker.run() }
            run.withLock { $0 = started }
        } catch { throw .system(error) }
    }

    deinit { stop() }

    // MARK: - Backends

    /// Attaches a backend; the guest runs on.
    ///
    /// - Parameters:
    ///   - backend: its name must be new.
    ///   - base: the epoch whose contents the machine began with and the backend has; nil: it gets everything.
    /// - Throws: `PipelineError`.
    public func attach(_ backend: any Backend, base: EpochNumber? = nil) throws(PipelineError) {
        if base != nil, !machine.tracksWrites { throw .notTracked }
        do throws(MachineError) { try machine.setTracksWrites(true) } catch { throw .machine(error) }
        let scan = base == nil ? BaseScan(machine, configuration.participants, pool: pool) : nil
        let name = backend.name
        try state.withLock { (state: inout State) throws(PipelineError) in
            if let failure = state.failure { throw failure }
            guard !state.isStopping else { throw PipelineError.stopped }
            guard !state.queues.contains(where: { $0.backend.name == name }) else { throw PipelineError.nameTaken(name) }
            do throws(SystemError) {
                let key = BackendKey(name: name, number: state.nextQueueNumber())
                state.queues.append(
                    try BackendQueue(backend, number: key.number, previous: base, scan: scan, scheduler) { [weak self] event in
                        self?.note(event, from: key)
                    })
            } catch { throw PipelineError.system(error) }
            state.promisedSince = scheduler.now
        }
        wake.signal()
    }

    /// Detaches a backend when it has written the epochs it was given, or when the time is over.
    ///
    /// - Parameter seconds: how long it may take.
    /// - Throws: `PipelineError.noBackend`, or `.lost`: it is detached then, with its thread left in a call that has not come back.
    public func detach(_ name: String, withinSeconds seconds: Double = PipelineConfiguration.partingSeconds) throws(PipelineError) {
        let queue = state.withLock { state in
            state.promisedSince = scheduler.now
            return state.queues.firstIndex { $0.backend.name == name }.map { state.queues.remove(at: $0) }
        }
        guard let queue else { throw .noBackend(name) }
        let step = queue.stop(withinNanoseconds: EpochPipeline.nanoseconds(seconds))
        let loss = step.map { PipelineError.lost(name, $0, seconds: Int(EpochPipeline.nanoseconds(seconds) / 1_000_000_000)) }
        settle(queue.key, loss ?? .noBackend(name))
        // More was lost than can be replaced: too little is left to copy a stop's pages to.
        if let loss, pool.usableChunks < pool.chunksMin { fail(loss) }
        wake.signal()
        if let loss { throw loss }
    }

    /// The backends.
    public var backends: [BackendStatus] { state.withLock { $0.queues }.map(\.status) }

    // MARK: - Checkpoints

    /// Makes a checkpoint now, and returns when it is durable.
    ///
    /// - Parameters:
    ///   - name: the checkpoint's name; nil: none.
    ///   - backend: the backend to wait for; nil: all that have a base.
    /// - Returns: the epoch.
    /// - Throws: `PipelineError` when it cannot be made durable there.
    @discardableResult
    public func requestCheckpoint(name: String? = nil, on backend: String? = nil) async throws(PipelineError) -> EpochNumber {
        try await withCheckedContinuation { continuation in
            _ = ask(name: name, on: backend) { continuation.resume(returning: $0) }
        }.get()
    }

    /// Asks for a checkpoint now.
    ///
    /// - Parameters:
    ///   - name: the checkpoint's name; nil: none.
    ///   - backend: the backend to wait for; nil: all that have a base.
    ///   - asker: called once, when it is durable or cannot be.
    /// - Returns: what to withdraw the request by; nil when it was refused at once.
    public func ask(name: String? = nil, on backend: String? = nil, _ asker: @escaping Asker) -> UInt64? {
        let way = AnswerWay(asker)
        let asked: Result<UInt64, PipelineError> = state.withLock { state in
            if let failure = state.failure { return .failure(failure) }
            if state.isStopping { return .failure(.stopped) }
            let asked = state.queues.filter { backend == nil || $0.backend.name == backend }
            if asked.allSatisfy({ $0.refusal != nil }) {
                let gone = state.retired.filter { backend == nil || $0.backend.name == backend }
                return .failure((asked + gone).lazy.compactMap(\.failure).first.map { .backend($0) } ?? .noBackend(backend))
            }
            guard let identifier = state.ledger.ask(name: name, backend: backend, way) else { return .failure(.tooManyRequests) }
            return .success(identifier)
        }
        switch asked {
        case .success(let identifier):
            wake.signal()
            return identifier
        case .failure(let error):
            way.give(.failure(error))
            return nil
        }
    }

    /// What became of a request that was taken back.
    public enum Withdrawal: Hashable, Sendable {
        /// Its asker was called, or is being called.
        case answered
        /// No epoch had begun for it; none will be made for it.
        case notBegun
        /// This epoch had begun, which is made all the same.
        case begun(EpochNumber)
    }

    /// Takes a request back; its asker is not called any more.
    public func withdraw(_ identifier: UInt64) -> Withdrawal {
        let request = state.withLock { $0.ledger.withdraw(identifier) }
        request?.asker.close()
        return switch request?.stage {
        case nil: .answered
        case .asked: .notBegun
        case .taken(let number), .underWay(let number, _): .begun(number)
        }
    }

    /// Returns when all that the guest has done before the call is durable on all backends.
    ///
    /// - Throws: `PipelineError`.
    public func barrier() async throws(PipelineError) { try await requestCheckpoint() }

    /// Makes checkpoints only on request, or by the clock again.
    public func setCheckpointsPaused(_ isPaused: Bool) {
        state.withLock { state in
            if state.isPaused, !isPaused { state.promisedSince = scheduler.now }
            state.isPaused = isPaused
        }
        wake.signal()
    }

    /// Changes how often checkpoints are made.
    public func setPeriod(_ period: CheckpointPeriod) {
        state.withLock { state in
            if state.period != period { state.promisedSince = scheduler.now }
            state.period = period
        }
        wake.signal()
    }

    /// Leaves out numbers up to one: for a backend whose history has them already.
    public func advance(to number: EpochNumber) { state.withLock { $0.last = max($0.last, number) } }

    /// The last epoch that was closed, durable or not.
    public var lastEpoch: EpochNumber { state.withLock { $0.last } }

    /// What the last epochs cost.
    public var statistics: StatisticsHistory { state.withLock { $0.history } }

    /// Why no more checkpoints are made; nil while they are.
    public var failure: PipelineError? { state.withLock { $0.failure } }

    // MARK: - The guest

    /// Keeps the guest at rest until `resumeGuest`, or the end of the pipeline; checkpoints are still made.
    ///
    /// A machine that does not come to rest has failed, which its end tells.
    public func pauseGuest() {
        let rest = try? LastingRest(machine)
        held.withLock { $0 = $0 ?? rest }
    }

    /// Takes `pauseGuest` back, also after a backend's failure stopped the guest, which is started if it never was.
    public func resumeGuest() {
        held.withLock { $0 = nil }
        machine.start()
    }

    /// What it does and has promised now; never waits for the thread that does it.
    public var progress: PipelineProgress {
        let (activity, activitySince) = doing.withLock { $0 }
        return state.withLock { state in
            PipelineProgress(
                now: scheduler.now, period: state.isPaused ? nil : state.period.next(after: 0), promisedSince: state.promisedSince,
                activity: activity, activitySince: activitySince, failure: state.failure)
        }
    }

    /// What is made now; copies nothing.
    public var recentFigures: RecentFigures {
        state.withLock { state in
            state.history.figures(
                now: scheduler.now, since: state.promisedSince, period: state.isPaused ? nil : state.period.next(after: 0))
        }
    }

    func note(_ activity: PipelineActivity) {
        doing.withLock { doing in
            if doing.activity != activity { doing = (activity, scheduler.now) }
        }
    }

    /// Ends the checkpoints when those that were begun are durable, or when the time is over; the guest is left as it is.
    ///
    /// Idempotent.
    /// - Parameter seconds: how long it may take; what is left then gets a second more.
    /// - Returns: what has not ended in time, and is left behind: what each was at.
    @discardableResult
    public func stop(withinSeconds seconds: Double = PipelineConfiguration.partingSeconds) -> [String] {
        let deadline = scheduler.now + EpochPipeline.nanoseconds(seconds)
        state.withLock { $0.isStopping = true }
        wake.signal()
        var left: [String] = []
        if let run = run.withLock({ $0 }), !run.join(withinNanoseconds: deadline - scheduler.now) {
            run.leave()
            left.append("the thread that makes checkpoints: \(progress.activity)")
        }
        let queues = state.withLock { state in
            let queues = state.queues + state.retired
            state.queues = []
            state.retired = []
            return queues
        }
        for queue in queues { queue.beginStop() }
        for queue in queues {
            let limit = max(deadline - scheduler.now, EpochPipeline.lastNanoseconds)
            guard let step = queue.stop(withinNanoseconds: limit) else { continue }
            settle(queue.key, .lost(queue.backend.name, step, seconds: Int(EpochPipeline.nanoseconds(seconds) / 1_000_000_000)))
            left.append("the backend \(queue.backend.name): \(step)")
        }
        fail(.stopped, reporting: false)
        return left
    }

    private static func nanoseconds(_ seconds: Double) -> Int64 { seconds > 0 ? Int64(min(seconds, secondsMax) * 1e9) : 0 }
    private static let secondsMax = 1e9
    /// What each backend gets at least, whatever has taken the time before it.
    private static let lastNanoseconds: Int64 = 1_000_000_000
}
