internal import CLinux
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

/// One backend's thread, and the pages and epochs that wait for it.
///
/// A slow backend fills its queue, which keeps the pipeline from closing epochs; nothing else is affected.
///
/// `@unchecked Sendable`: `thread` is set once in `init`.
final class BackendQueue: @unchecked Sendable {
    enum Item: Sendable {
        case stage(PageSet)
        case write(Epoch)

        var pages: PageSet {
            switch self {
            case .stage(let pages): pages
            case .write(let epoch): epoch.pages
            }
        }
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
        /// What the thread is at, and since when; no time while it waits for work.
        var step = BackendStep.rests
        var busySince: Int64?
        /// Pages that it has in hand.
        var inHand: [PageSet] = []
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

    let backend: any Backend
    private let state: Mutex<State>
    private let wake = WakeSignal()
    private let report: @Sendable (BackendEvent) -> Void
    private var thread: Thread?

    /// - Parameters:
    ///   - scan: hands over the contents; nil for a backend that has those of epoch `previous`.
    ///   - report: called on the backend's thread.
    /// - Throws: `SystemError` when there is no thread to be had.
    init(
        _ backend: any Backend, previous: EpochNumber?, scan: BaseScan?, report: @escaping @Sendable (BackendEvent) -> Void
    ) throws(SystemError) {
        self.backend = backend
        self.report = report
        // What the machine began with is as durable as its history.
        let now = clinux_clock_ns(CLOCK_MONOTONIC)
        state = Mutex(
            State(
                written: previous, durable: previous, durableStop: previous == nil ? nil : now, busySince: now, isBaseComplete: scan == nil)
        )
        // The thread keeps its queue until `stop`: the pipeline may be dropped on it, by a report.
        thread = try Thread(name: "to \(backend.name)") { @Sendable in self.main(scan) }
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

    /// Has the thread end when what it has is durable; nobody waits.
    func beginStop() {
        state.withLock { $0.isStopping = true }
        wake.signal()
    }

    /// Ends the thread when what it has is durable; idempotent, and necessary.
    ///
    /// - Returns: nil when it has ended. Otherwise what it was at: it is lost then, takes nothing and tells nothing any more, and ends
    ///   when the backend's call comes back. What it still uses stays with it.
    func stop(withinNanoseconds limit: Int64) -> BackendStep? {
        beginStop()
        let isLost = state.withLock { $0.isLost }
        guard let thread, !thread.join(withinNanoseconds: isLost ? 0 : limit) else { return nil }
        let (step, waiting, inHand) = state.withLock { state in
            state.isLost = true
            defer { (state.items, state.epochs) = ([], 0) }
            return (state.step, state.items, state.inHand)
        }
        for pages in inHand { pages.lose() }
        thread.leave()
        return withExtendedLifetime(waiting) { step }
    }

    // MARK: - The thread

    private func main(_ scan: BaseScan?) {
        var scan = scan
        do throws(BackendError) {
            while true {
                let ticket = wake.ticket
                if try takeItems() { continue }
                if state.withLock({ $0.isStopping }) { return }
                if let current = scan {
                    if try advance(current, ticket) { scan = nil }
                } else {
                    enter(.rests)
                    wake.wait(ticket)
                }
            }
        } catch { fail(error) }
    }

    private func enter(_ step: BackendStep) {
        let now = clinux_clock_ns(CLOCK_MONOTONIC)
        state.withLock { ($0.step, $0.busySince) = (step, step == .rests ? nil : now) }
    }

    /// After each call of the backend: who was given up meanwhile does nothing more.
    private func goOn() throws(BackendError) {
        if state.withLock({ $0.isLost }) { throw BackendError(backend: backend.name, reason: "it was given up") }
    }

    /// Writes what waits, and returns when it is durable; false when nothing waited.
    private func takeItems() throws(BackendError) -> Bool {
        // The buffers of the pages go back to the pool with the end of this call, before the wait for the device.
        let (taken, epochs, last) = try writeItems()
        guard taken > 0 else { return false }
        guard let last else {
            report(.progress)
            return true
        }
        enter(.flushes)
        try backend.flush()
        try goOn()
        let now = clinux_clock_ns(CLOCK_MONOTONIC)
        state.withLock {
            $0.epochs -= epochs
            $0.durable = last.number
            $0.durableStop = last.stop
            $0.lag = now - last.stop
            $0.busySince = now
        }
        report(.durable(last.number))
        return true
    }

    private func writeItems() throws(BackendError) -> (taken: Int, epochs: Int, last: (number: EpochNumber, stop: Int64)?) {
        let items = state.withLock { state in
            let items = state.items
            state.items = []
            state.inHand = items.map(\.pages)
            return items
        }
        defer { state.withLock { $0.inHand = [] } }
        var epochs = 0
        var last: (number: EpochNumber, stop: Int64)?
        for item in items {
            switch item {
            case .stage(let pages):
                enter(.stages)
                try backend.stage(pages)
            case .write(let epoch):
                enter(.writes(epoch.number))
                let previous = state.withLock { $0.written }
                try backend.write(epoch, after: previous)
                state.withLock { $0.written = epoch.number }
                epochs += 1
                last = (epoch.number, epoch.monotonicClock)
            }
            try goOn()
        }
        return (items.count, epochs, last)
    }

    /// One piece of the base; true when it was the last.
    private func advance(_ scan: BaseScan, _ ticket: UInt32) throws(BackendError) -> Bool {
        let piece: BaseScan.Piece
        do throws(PipelineError) {
            piece = try scan.next()
        } catch { throw BackendError(backend: backend.name, reason: "\(error)") }
        switch piece {
        case .pages(let pages):
            state.withLock { $0.inHand = [pages] }
            defer { state.withLock { $0.inHand = [] } }
            enter(.scans)
            try backend.stage(pages)
            try goOn()
        case .none: wake.wait(ticket, nanoseconds: 1_000_000)
        case .end:
            // What the scan has used is more than epochs need.
            scan.giveBack()
            state.withLock { $0.isBaseComplete = true }
            report(.progress)
            return true
        }
        return false
    }

    private func fail(_ error: BackendError) {
        if state.withLock({ $0.isLost }) { return }
        let dropped = state.withLock { state in
            state.failure = error
            state.epochs = 0
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
