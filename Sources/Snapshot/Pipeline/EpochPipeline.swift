public import AuroraVMM
internal import CLinux
internal import Linux
import Synchronization

/// Makes checkpoints of a running machine, again and again, and hands them to backends.
///
/// One thread a group does it: see `EpochWorker` for the life of an epoch. The guest must be paused and resumed through the
/// pipeline as long as there is one, because every checkpoint pauses it, too.
public final class EpochPipeline: Sendable {
    let machine: Machine
    let configuration: PipelineConfiguration
    let state: Mutex<State>
    /// Whether somebody wants the guest to stand still; held for the length of a stop.
    let guestIsPaused: Mutex<Bool>
    let wake: WakeSignal
    let pool: PagePool
    private let thread: Mutex<Thread?>

    /// What the callers and the thread share.
    struct State {
        var queues: [BackendQueue] = []
        /// Queues that failed, until somebody can wait for their threads.
        var retired: [BackendQueue] = []
        var period: CheckpointPeriod
        var isPaused = false
        var isStopping = false
        var failure: PipelineError?
        /// Checkpoints somebody waits to be begun.
        var requests: [Request] = []
        /// Checkpoints somebody waits to be durable.
        var waiters: [Waiter] = []
        var last: EpochNumber
        var history = StatisticsHistory()
        var nextRequest: UInt64 = 0

        /// Requests whose backend can take an epoch; the others wait until its base is complete.
        var servableRequests: [Request] {
            requests.filter { request in
                request.backend == nil || queues.contains { $0.backend.name == request.backend && $0.isReady }
            }
        }
    }

    struct Request {
        let identifier: UInt64
        let name: String?
        let backend: String?
        let continuation: CheckedContinuation<Result<EpochNumber, PipelineError>, Never>
    }

    struct Waiter {
        let epoch: EpochNumber
        /// Where the epoch still has to arrive.
        var backends: Set<String>
        let continuation: CheckedContinuation<Result<EpochNumber, PipelineError>, Never>
    }

    /// Starts the pipeline's thread; without a backend it makes no checkpoints.
    ///
    /// From now on the pipeline alone pauses and resumes the guest, or a stop could be cut short: a guest that stands still now
    /// goes on with `resumeGuest`.
    ///
    /// - Throws: `PipelineError.system` when the host has no room.
    public init(_ machine: Machine, _ configuration: PipelineConfiguration = PipelineConfiguration()) throws(PipelineError) {
        self.machine = machine
        self.configuration = configuration
        let wake = WakeSignal()
        self.wake = wake
        state = Mutex(State(period: configuration.period, last: configuration.lastEpoch))
        thread = Mutex(nil)
        guestIsPaused = Mutex(machine.isPaused)
        do throws(SystemError) {
            pool = try PagePool(bytes: configuration.poolBytes) { wake.signal() }
            let worker = EpochWorker(self, try PageCollector(machine.memory, pool: pool))
            let started = try Thread(name: "checkpoints") { @Sendable in worker.main() }
            thread.withLock { $0 = started }
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
                state.queues.append(
                    try BackendQueue(backend, previous: base, scan: scan) { [weak self] event in self?.note(event, from: name) })
            } catch { throw PipelineError.system(error) }
        }
        wake.signal()
    }

    /// Detaches a backend when it has written the epochs it was given.
    ///
    /// - Throws: `PipelineError.noBackend`.
    public func detach(_ name: String) throws(PipelineError) {
        let queue = state.withLock { state in
            state.queues.firstIndex { $0.backend.name == name }.map { state.queues.remove(at: $0) }
        }
        guard let queue else { throw .noBackend(name) }
        queue.stop()
        settle(name, .failure(.noBackend(name)))
        wake.signal()
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
        let result = await withCheckedContinuation { continuation in
            let refusal = state.withLock { state -> PipelineError? in
                if let failure = state.failure { return failure }
                if state.isStopping { return .stopped }
                let asked = state.queues.filter { backend == nil || $0.backend.name == backend }
                if asked.allSatisfy({ $0.refusal != nil }) {
                    let gone = state.retired.filter { backend == nil || $0.backend.name == backend }
                    return (asked + gone).lazy.compactMap(\.failure).first.map { .backend($0) } ?? .noBackend(backend)
                }
                state.requests.append(Request(identifier: state.nextRequest, name: name, backend: backend, continuation: continuation))
                state.nextRequest += 1
                return nil
            }
            if let refusal { continuation.resume(returning: .failure(refusal)) }
            wake.signal()
        }
        return try result.get()
    }

    /// Returns when all that the guest has done before the call is durable on all backends.
    ///
    /// - Throws: `PipelineError`.
    public func barrier() async throws(PipelineError) { try await requestCheckpoint() }

    /// Makes checkpoints only on request, or by the clock again.
    public func setCheckpointsPaused(_ isPaused: Bool) {
        state.withLock { $0.isPaused = isPaused }
        wake.signal()
    }

    /// Changes how often checkpoints are made.
    public func setPeriod(_ period: CheckpointPeriod) {
        state.withLock { $0.period = period }
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

    /// Pauses the guest until `resumeGuest`; checkpoints on request are still made.
    public func pauseGuest() {
        guestIsPaused.withLock { isPaused in
            if !isPaused { machine.pause() }
            isPaused = true
        }
    }

    /// Lets the guest go on, also after a backend's failure stopped it.
    public func resumeGuest() {
        guestIsPaused.withLock { isPaused in
            if isPaused { machine.resume() }
            isPaused = false
        }
    }

    /// Ends the checkpoints when those that were begun are durable; the guest is left as it is.
    ///
    /// Idempotent.
    public func stop() {
        state.withLock { $0.isStopping = true }
        wake.signal()
        thread.withLock { $0 }?.join()
        let queues = state.withLock { state in
            let queues = state.queues + state.retired
            state.queues = []
            state.retired = []
            return queues
        }
        for queue in queues { queue.stop() }
        fail(.stopped, reporting: false)
    }
}
