internal import AuroraVMM
internal import CLinux
internal import Linux
import Synchronization

/// The thread of a pipeline: makes one epoch after the other.
///
/// The guest runs; late in the epoch the pages written so far are copied; then the guest stops, the last pages are copied,
/// the state is taken, the guest goes on, and what was copied goes to the backends.
///
/// `@unchecked Sendable`: handed to its thread and used by nobody else.
final class EpochWorker: @unchecked Sendable {
    /// KVM's dirty ring is looked after at least this often, in nanoseconds.
    private static let restMax: Int64 = 20_000_000
    /// Buffers that were of no use for so many epochs are given back.
    private static let trimEpochs = 128

    // Safety: `main` holds the pipeline during each step, and does not begin one when it is gone. A checked reference traps while
    // the pipeline is in `init` or `deinit`.
    unowned(unsafe) let pipeline: EpochPipeline
    private weak let owner: EpochPipeline?
    let collector: PageCollector
    let machine: Machine
    let pool: PagePool
    var planner = PreCopyPlanner()
    /// When the next stop is planned, and when the last one was.
    private var nextStop: Int64 = 0
    var lastStop: Int64 = 0
    private var lastStopLength: Int64 = 0
    private var epochsToTrim = EpochWorker.trimEpochs

    init(_ pipeline: EpochPipeline, _ collector: PageCollector) {
        self.pipeline = pipeline
        owner = pipeline
        self.collector = collector
        machine = pipeline.machine
        pool = pipeline.pool
    }

    static func now() -> Int64 { clinux_clock_ns(CLOCK_MONOTONIC) }

    /// What the thread found to do.
    private enum Task {
        case end
        case rest
        case epoch(period: Int64, isRequested: Bool)
    }

    func main() {
        _ = clinux_set_timer_slack(1)
        // It must not wait for the slice of a thread that writes checkpoints, or of a neighbour.
        Linux::Thread.prefersShortSlices()
        nextStop = EpochWorker.now()
        while let owner {
            // Whoever drops the pipeline meanwhile leaves its `deinit` to the end of this step.
            let goesOn = withExtendedLifetime(owner) { takeStep() }
            if !goesOn { return }
        }
    }

    /// False at the end, which is never a silent one.
    private func takeStep() -> Bool {
        do throws(PipelineError) {
            if try step() { return true }
        } catch {
            switch error {
            case .noBackend:
                abandon()
                return true
            case .stopped: break
            case .ended: pipeline.fail(error)
            default:
                pipeline.pauseGuest()
                pipeline.fail(error)
            }
        }
        pipeline.note(.hasEnded)
        // Nobody is left waiting, and nobody attaches to a pipeline that makes nothing.
        if !pipeline.state.withLock({ $0.isStopping }) { pipeline.fail(.stopped) }
        return false
    }

    /// Nobody takes the epoch any more: what was copied counts as written again, and a backend may come later.
    private func abandon() {
        collector.abandon()
        pipeline.deliver(
            pipeline.state.withLock { state in
                state.ledger.putBack()
                return state.ledger.left("", .noBackend(nil), usable: state.usableNames)
            })
    }

    private func step() throws(PipelineError) -> Bool {
        let ticket = pipeline.wake.ticket
        switch task() {
        case .end: return false
        case .rest:
            pipeline.note(.rests)
            try rest(ticket, until: nil)
        case .epoch(let period, let isRequested):
            let now = EpochWorker.now()
            let begin = isRequested ? now : nextStop - planner.lead(period: period)
            if begin > now {
                pipeline.note(.rests)
                try rest(ticket, until: begin)
            } else if !hasRoom() {
                pipeline.note(.waitsForBackend)
                try rest(ticket, until: now + EpochWorker.restMax)
            } else {
                try makeEpoch(target: isRequested ? now : nextStop, period: period)
            }
        }
        return true
    }

    private func task() -> Task {
        let lastLength = lastStopLength
        return pipeline.state.withLock { state in
            if state.isStopping || state.failure != nil { return .end }
            guard state.queues.contains(where: \.isReady) else { return .rest }
            if state.queues.contains(where: { $0.failure != nil }) { return .rest }
            let isRequested = state.ledger.isWanted(ready: state.readyNames)
            guard !state.isPaused || isRequested else { return .rest }
            return .epoch(period: state.period.next(after: lastLength), isRequested: isRequested)
        }
    }

    /// Whether no backend lags behind.
    private func hasRoom() -> Bool {
        let limit = pipeline.configuration.epochsInFlightMax
        return pipeline.state.withLock { state in !state.queues.contains { $0.isFull(epochsMax: limit) } }
    }

    /// Waits for a signal or a time, not longer than the dirty ring can wait.
    func rest(_ ticket: UInt32, until: Int64?) throws(PipelineError) {
        let limit = until.map { min($0 - EpochWorker.now(), EpochWorker.restMax) } ?? EpochWorker.restMax
        pipeline.wake.wait(ticket, nanoseconds: limit)
        do throws(MachineError) { try machine.relieveDirtyRing() } catch { throw .machine(error) }
        if let end = machine.end { throw .ended(end) }
    }

    private func makeEpoch(target: Int64, period: Int64) throws(PipelineError) {
        var statistics = EpochStatistics()
        let begin = EpochWorker.now()
        pipeline.note(.copies)
        if planner.lead(period: period) > 0 || lastStop == 0 { try preCopy(&statistics) }
        let stop = try stopGuest(&statistics)
        statistics.monotonicClock = stop.monotonicClock
        statistics.period = lastStop == 0 ? 0 : stop.monotonicClock - lastStop
        statistics.delay = max(0, stop.monotonicClock - target)
        lastStop = stop.monotonicClock
        lastStopLength = statistics.stop
        try finish(stop, &statistics)
        planner.note(
            pages: statistics.pages + statistics.stagedPages, inStop: .init(pages: statistics.pagesInStop, buffers: stop.buffers),
            nanoseconds: statistics.preCopy + statistics.copy)
        epochsToTrim -= 1
        if epochsToTrim <= 0 {
            epochsToTrim = EpochWorker.trimEpochs
            collector.batch.trim(keeping: reserve(vainStops: 0))
            pool.trim()
        }
        // A stop that came late is not made up for.
        nextStop = max(target, begin - period) + period
    }
}
