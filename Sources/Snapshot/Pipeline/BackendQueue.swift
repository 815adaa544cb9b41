internal import Linux
import Synchronization

/// What became of an epoch at a backend.
enum BackendEvent: Sendable {
    /// A place in the queue is free, or the base is complete.
    case progress
    /// All epochs up to this one are durable.
    case durable(EpochNumber)
    /// It takes nothing any more; who waits for it is not told yet.
    case failed(BackendError)
    /// Everything that a failure brings with it has been done: those who wait for it can be told.
    case refuses(BackendError)
}

/// One backend's activity, and the pages and epochs that wait for it.
///
/// A slow backend fills its queue, which keeps the pipeline from closing epochs; nothing else is affected.
///
/// `@unchecked Sendable`: `run` is set once in `init`; `scan` and `batch` are the activity's alone.
final class BackendQueue: @unchecked Sendable {
    enum Item: Sendable {
        case stage(PageSet)
        case write(Epoch)
    }

    private struct State {
        var items: [Item] = []
        /// Epochs handed in and not durable.
        var epochs = 0
        var written: EpochNumber?
        var durable: EpochNumber?
        /// Monotonic clock at the stop of the last durable epoch.
        var durableStop: Int64?
        /// Nanoseconds from the stop of the last durable epoch until it was durable.
        var lag: Int64 = 0
        /// What the activity is at, and since when; no time while it waits for work.
        var step = BackendStep.rests
        var busySince: Int64?
        /// Pages that it has in hand.
        var inHand: PageSet?
        var isBaseComplete: Bool
        var failure: BackendError?
        /// Whether the failure has been handled, so that who comes now is refused.
        var isFailureHandled = false
        var isStopping = false
        /// Whether it was given up in the midst of a call of the backend, which may come back or not.
        var isLost = false
    }

    /// Parts of epochs that wait, beyond which no further epoch is begun: one with an empty base gets a part each epoch.
    private static let itemsMax = 512

    /// What waited when the activity looked, to be made durable at once.
    private struct Batch {
        /// Items that are not written yet.
        var left: Int
        var epochs = 0
        var last: (number: EpochNumber, stop: Int64)?
    }

    let key: BackendKey
    let backend: any Backend
    private let state: Mutex<State>
    private let wake = WakeSignal()
    private let scheduler: any PipelineScheduler
    private let report: @Sendable (BackendEvent) -> Void
    private var run: (any PipelineActivityRun)?
    private var scan: BaseScan?
    private var batch: Batch?

    /// - Parameters:
    ///   - number: makes it another than those of its name before it.
    ///   - scan: hands over the contents; nil for a backend that has those of epoch `previous`.
    ///   - report: called by the backend's activity.
    /// - Throws: `SystemError` when there is no thread to be had.
    init(
        _ backend: any Backend, number: UInt64, previous: EpochNumber?, scan: BaseScan?, _ scheduler: any PipelineScheduler,
        report: @escaping @Sendable (BackendEvent) -> Void
    ) throws(SystemError) {
        key = BackendKey(name: backend.name, number: number)
        self.backend = backend
        self.scan = scan
        self.scheduler = scheduler
        self.report = report
        // What the machine began with is as durable as its history.
        let now = scheduler.now
        state = Mutex(
            State(
                written: previous, durable: previous, durableStop: previous == nil ? nil : now, busySince: now, isBaseComplete: scan == nil)
        )
        // The activity keeps its queue until `stop`: the pipeline may be dropped by it, in a report.
        run = try scheduler.start("to \(backend.name)", isUrgent: false, wake: wake) { @Sendable in self.step() }
    }

    /// Whether the next epoch that begins its stop is whole for this backend.
    var isReady: Bool { state.withLock { $0.isBaseComplete && $0.failure == nil } }
    /// Why it is not used any more.
    var failure: BackendError? { state.withLock { $0.failure } }
    /// The failure, once the group has been paused, or the backend let go: who is told of it finds that done.
    var refusal: BackendError? { state.withLock { $0.isFailureHandled ? $0.failure : nil } }
    /// Whether no further epoch is to be begun, because so many are not durable yet.
    func isFull(epochsMax: Int) -> Bool { state.withLock { $0.epochs >= epochsMax || $0.items.count >= BackendQueue.itemsMax } }

    /// The backend as others see it.
    var status: BackendStatus {
        state.withLock {
            BackendStatus(
                name: backend.name, isComplete: $0.isBaseComplete, durable: $0.durable, durableStop: $0.durableStop,
                epochsInFlight: $0.epochs, lag: $0.lag, busySince: $0.busySince, failure: $0.failure)
        }
    }

    /// Takes pages or an epoch; false when the backend takes nothing any more.
    func submit(_ item: Item) -> Bool {
        let isAccepted = state.withLock { state in
            guard state.failure == nil, !state.isStopping else { return false }
            state.items.append(item)
            if case .write = item { state.epochs += 1 }
            return true
        }
        if isAccepted { wake.signal() }
        return isAccepted
    }

    /// Has the activity end when what it has is durable; nobody waits.
    func beginStop() {
        state.withLock { $0.isStopping = true }
        wake.signal()
    }

    /// Ends the activity when what it has is durable; idempotent, and necessary.
    ///
    /// - Returns: nil when it has ended. Otherwise what it was at: it is lost then, takes nothing and tells nothing any more, and ends
    ///   when the backend's call comes back. What it still uses stays with it.
    func stop(withinNanoseconds limit: Int64) -> BackendStep? {
        beginStop()
        let isLost = state.withLock { $0.isLost }
        guard let run, !run.join(withinNanoseconds: isLost ? 0 : limit) else { return nil }
        let (step, waiting, inHand) = state.withLock { state in
            state.isLost = true
            defer { (state.items, state.epochs) = ([], 0) }
            return (state.step, state.items, state.inHand)
        }
        inHand?.lose()
        run.leave()
        return withExtendedLifetime(waiting) { step }
    }

    // MARK: - The activity

    /// One call of the backend at most.
    private func step() -> NextStep {
        do throws(BackendError) { return try proceed() } catch {
            fail(error)
            return .end
        }
    }

    private func proceed() throws(BackendError) -> NextStep {
        let ticket = wake.ticket
        if let batch {
            if batch.left > 0 { try writeItem() } else { try finish(batch) }
            return .atOnce
        }
        let (waiting, isStopping) = state.withLock { ($0.items.count, $0.isStopping) }
        if waiting > 0 {
            batch = Batch(left: waiting)
        } else if isStopping {
            scan = nil
            return .end
        } else if let scan {
            return try advance(scan, ticket)
        } else {
            enter(.rests)
            return .wait(ticket, until: nil)
        }
        return .atOnce
    }

    private func enter(_ step: BackendStep, with pages: PageSet? = nil) {
        let now = scheduler.now
        state.withLock { ($0.step, $0.busySince, $0.inHand) = (step, step == .rests ? nil : now, pages) }
    }

    /// After each call of the backend: who was given up meanwhile does nothing more.
    private func goOn() throws(BackendError) {
        let isLost = state.withLock { state in
            state.inHand = nil
            return state.isLost
        }
        if isLost { throw BackendError(backend: backend.name, reason: "it was given up") }
    }

    /// The buffers of its pages go back to the pool with the end of this call, before the wait for the device.
    private func writeItem() throws(BackendError) {
        let next = state.withLock { state in state.items.isEmpty ? nil : state.items.removeFirst() }
        guard let item = next else { return try goOn() }
        batch?.left -= 1
        switch item {
        case .stage(let pages):
            enter(.stages, with: pages)
            try backend.stage(pages)
        case .write(let epoch):
            enter(.writes(epoch.number), with: epoch.pages)
            let previous = state.withLock { $0.written }
            try backend.write(epoch, after: previous)
            state.withLock { $0.written = epoch.number }
            batch?.epochs += 1
            batch?.last = (epoch.number, epoch.monotonicClock)
        }
        try goOn()
    }

    /// Returns when the epochs of a batch are durable.
    private func finish(_ batch: Batch) throws(BackendError) {
        self.batch = nil
        guard let last = batch.last else { return report(.progress) }
        enter(.flushes)
        try backend.flush()
        try goOn()
        let now = scheduler.now
        state.withLock {
            $0.epochs -= batch.epochs
            $0.durable = last.number
            $0.durableStop = last.stop
            $0.lag = now - last.stop
            $0.busySince = now
        }
        report(.durable(last.number))
    }

    /// One piece of the base.
    private func advance(_ scan: BaseScan, _ ticket: UInt32) throws(BackendError) -> NextStep {
        let piece: BaseScan.Piece
        do throws(PipelineError) {
            piece = try scan.next()
        } catch { throw BackendError(backend: backend.name, reason: "\(error)") }
        switch piece {
        case .pages(let pages):
            enter(.scans, with: pages)
            try backend.stage(pages)
            try goOn()
        case .none: return .wait(ticket, until: scheduler.now + BackendQueue.roomNanoseconds)
        case .end:
            // What the scan has used is more than epochs need.
            scan.giveBack()
            self.scan = nil
            state.withLock { $0.isBaseComplete = true }
            report(.progress)
        }
        return .atOnce
    }

    /// A scan that finds no buffers looks again after so long.
    private static let roomNanoseconds: Int64 = 1_000_000

    private func fail(_ error: BackendError) {
        batch = nil
        scan = nil
        if state.withLock({ $0.isLost }) { return }
        let dropped = state.withLock { state in
            state.failure = error
            state.epochs = 0
            state.inHand = nil
            let dropped = state.items
            state.items = []
            return dropped
        }
        _ = dropped
        report(.failed(error))
        state.withLock { $0.isFailureHandled = true }
        report(.refuses(error))
    }
}

/// A backend as others see it.
public struct BackendStatus: Hashable, Sendable {
    /// Its name.
    public let name: String
    /// Whether it has a whole checkpoint or the next epoch completes one.
    public let isComplete: Bool
    /// The last epoch that is durable there.
    public let durable: EpochNumber?
    /// The host's monotonic clock, in nanoseconds, at the stop of the last durable epoch; nil: there is none.
    public let durableStop: Int64?
    /// Epochs on their way.
    public let epochsInFlight: Int
    /// Nanoseconds from the stop of the last durable epoch until it was durable.
    public let lag: Int64
    /// Since when, by the same clock, it is at what it does now; nil: it waits for epochs.
    public let busySince: Int64?
    /// Why it is not used any more.
    public let failure: BackendError?
}
