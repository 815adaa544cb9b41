internal import AuroraVMM
import Synchronization

/// Makes one epoch of a pipeline after the other.
///
/// The guest runs; late in the epoch the pages written so far are copied; then the guest stops, the last pages are copied,
/// the state is taken, the guest goes on, and what was copied goes to the backends. Each of these is a step, which waits for nothing:
/// it says what the next one waits for.
///
/// `@unchecked Sendable`: handed to its activity and used by nobody else.
final class EpochWorker: @unchecked Sendable {
    /// KVM's dirty ring is looked after at least this often, in nanoseconds.
    static let restMax: Int64 = 20_000_000
    /// Buffers that were of no use for so many epochs are given back.
    private static let trimEpochs = 128

    /// How far the open epoch is.
    enum Phase {
        /// None is open.
        case rests
        /// The guest runs, and what it wrote is copied.
        case copies
        /// Buffers for the stop are found.
        case prepares
        /// The guest is stopped.
        case stops
        /// It stands still until parts of the epoch have gone ahead.
        case standsStill
        /// The guest runs again, and what changed on volumes is read.
        case reads
        /// All is there.
        case handsOver
    }

    // Safety: `run` holds the pipeline during each step, and does not begin one when it is gone. A checked reference traps while
    // the pipeline is in `init` or `deinit`.
    unowned(unsafe) let pipeline: EpochPipeline
    private weak let owner: EpochPipeline?
    let collector: PageCollector
    let machine: any CheckpointableMachine
    let pool: PagePool
    var planner = PreCopyPlanner()
    var phase = Phase.rests
    var epoch = OpenEpoch()
    /// The guest at rest: it goes on when this is nil.
    var standing: (any CheckpointRest & ~Copyable)?
    /// When the next stop is planned, and when the last one was.
    private var nextStop: Int64
    private var lastStop: Int64 = 0
    private var lastStopLength: Int64 = 0
    private var epochsToTrim = EpochWorker.trimEpochs
    /// Whether the step before this one waited while the guest ran.
    private var hasRested = false

    init(_ pipeline: EpochPipeline, _ collector: PageCollector) {
        self.pipeline = pipeline
        owner = pipeline
        self.collector = collector
        machine = pipeline.machine
        pool = pipeline.pool
        nextStop = pipeline.scheduler.now
    }

    var now: Int64 { pipeline.scheduler.now }
    var isStopping: Bool { pipeline.state.withLock { $0.isStopping } }

    /// The next step.
    func run() -> NextStep {
        guard let owner else { return .end }
        // Whoever drops the pipeline meanwhile leaves its `deinit` to the end of this step.
        return withExtendedLifetime(owner) { step() }
    }

    /// The end is never a silent one.
    private func step() -> NextStep {
        do throws(PipelineError) {
            let next = try proceed()
            if next != .end { return next }
        } catch {
            standing = nil
            switch error {
            case .noBackend:
                abandon()
                return .atOnce
            case .stopped: break
            case .ended: pipeline.fail(error)
            default:
                pipeline.pauseGuest()
                pipeline.fail(error)
            }
        }
        pipeline.note(.hasEnded)
        // Nobody is left waiting, and nobody attaches to a pipeline that makes nothing.
        if !isStopping { pipeline.fail(.stopped) }
        return .end
    }

    private func proceed() throws(PipelineError) -> NextStep {
        if hasRested { try lookAfterMachine() }
        return switch phase {
        case .rests: try begin()
        case .copies: try copyWhileRunning()
        case .prepares: try prepareStop()
        case .stops: try stopGuest()
        case .standsStill: copyWhileStanding()
        case .reads: try readVolumes()
        case .handsOver: handOver()
        }
    }

    /// Nobody takes the epoch any more: what was copied counts as written again, and a backend may come later.
    private func abandon() {
        phase = .rests
        collector.abandon()
        pipeline.state.withLock { $0.ledger.putBack() }
        pipeline.settle(nil, .noBackend(nil))
    }

    // MARK: - When

    /// What there is to do.
    private enum Task {
        case end
        /// Nobody takes an epoch.
        case idle
        case rest
        case epoch(period: Int64, isRequested: Bool)
    }

    private func task() -> Task {
        let lastLength = lastStopLength
        return pipeline.state.withLock { state in
            if state.isStopping || state.failure != nil { return .end }
            guard state.queues.contains(where: \.isReady) else { return .idle }
            if state.queues.contains(where: { $0.failure != nil }) { return .rest }
            let isRequested = state.ledger.isWanted(ready: state.readyKeys)
            guard !state.isPaused || isRequested else { return .rest }
            return .epoch(period: state.period.next(after: lastLength), isRequested: isRequested)
        }
    }

    private func begin() throws(PipelineError) -> NextStep {
        let ticket = pipeline.wake.ticket
        switch task() {
        case .end: return .end
        case .idle:
            // A base scan may need what is leased here.
            collector.batch.trim(keeping: 0)
            return rest(ticket, .rests)
        case .rest: return rest(ticket, .rests)
        case .epoch(let period, let isRequested):
            let now = now
            let begin = isRequested ? now : nextStop - planner.lead(period: period)
            if begin > now { return rest(ticket, .rests, until: begin) }
            if !hasRoom() { return rest(ticket, .waitsForBackend) }
            epoch = OpenEpoch(target: isRequested ? now : nextStop, period: period, begin: now)
            pipeline.note(.copies)
            phase = planner.lead(period: period) > 0 || lastStop == 0 ? .copies : .prepares
            return .atOnce
        }
    }

    /// Whether no backend lags behind.
    private func hasRoom() -> Bool {
        let limit = pipeline.configuration.epochsInFlightMax
        return pipeline.state.withLock { state in !state.queues.contains { $0.isFull(epochsMax: limit) } }
    }

    /// Waits for a signal or a time while the guest runs, not longer than the dirty ring can wait.
    func rest(_ ticket: UInt32, _ activity: PipelineActivity, until: Int64 = .max) -> NextStep {
        pipeline.note(activity)
        hasRested = true
        return .wait(ticket, until: min(until, now + EpochWorker.restMax))
    }

    private func lookAfterMachine() throws(PipelineError) {
        hasRested = false
        do throws(MachineError) { try machine.relieveDirtyRing() } catch { throw .machine(error) }
        if let end = machine.end { throw .ended(end) }
    }

    /// Notes down what the stop was like.
    func noteStop(at time: Int64) {
        epoch.statistics.monotonicClock = time
        epoch.statistics.period = lastStop == 0 ? 0 : time - lastStop
        epoch.statistics.delay = max(0, time - epoch.target)
        lastStop = time
        lastStopLength = epoch.statistics.stop
    }

    /// The epoch is at the backends: plans the next one.
    func close() {
        let statistics = epoch.statistics
        planner.note(
            pages: statistics.pages + statistics.stagedPages,
            inStop: .init(pages: statistics.pagesInStop, buffers: epoch.stop?.buffers ?? 0),
            nanoseconds: statistics.preCopy + statistics.copy)
        if statistics.vainStops > 0 { collector.batch.trim(keeping: reserve(vainStops: 0)) }
        epochsToTrim -= 1
        if epochsToTrim <= 0 {
            epochsToTrim = EpochWorker.trimEpochs
            collector.batch.trim(keeping: reserve(vainStops: 0))
            pool.trim()
        }
        // A stop that came late is not made up for.
        nextStop = max(epoch.target, epoch.begin - epoch.period) + epoch.period
        epoch = OpenEpoch()
        phase = .rests
    }
}

/// The epoch that is being made.
struct OpenEpoch {
    /// When its stop was planned, and nanoseconds to the one after it.
    var target: Int64 = 0
    var period: Int64 = 0
    /// When it was begun.
    var begin: Int64 = 0
    var statistics = EpochStatistics()
    /// The round of copying that is under way; nil: none is.
    var round: Round?
    /// Pages of the round before it.
    var copiedBefore: Int?
    var stop: StoppedEpoch?
    /// The volume that is being read, and how far.
    var participant = 0
    var position = 0

    struct Round {
        /// The page to go on from.
        var page = 0
        var copied = 0
    }
}
