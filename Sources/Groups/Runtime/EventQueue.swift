internal import CLinux
internal import Linux
import Synchronization

/// Events from any thread for one thread that waits for them.
///
/// What somebody orders goes before what has happened, each in its order. Neither grows without limit: what finds no room is refused,
/// and who pushed it is told.
final class EventQueue<Event: Sendable>: Sendable {
    /// How an event is queued.
    enum Lane: Sendable {
        /// In its turn.
        case usual
        /// In its turn, and never refused: for what comes once.
        case once
        /// Before all that is usual.
        case order
        /// Before everything, and never refused: for the order that ends it all, which is given once.
        case last
    }

    private struct Lanes {
        var orders: [Event] = []
        var usual: [Event] = []

        mutating func take(_ isWanted: (Event) -> Bool) -> Event? {
            if let index = orders.firstIndex(where: isWanted) { return orders.remove(at: index) }
            return usual.firstIndex(where: isWanted).map { usual.remove(at: $0) }
        }
    }

    private let lanes = Mutex(Lanes())
    private let wake: EventDescriptor
    private let eventsMax: Int

    /// - Parameter eventsMax: the most events of a lane.
    init(eventsMax: Int = 256) throws(SystemError) {
        wake = try EventDescriptor()
        self.eventsMax = eventsMax
    }

    /// Adds an event and wakes the waiting thread.
    ///
    /// - Returns: false when there are too many already.
    @discardableResult
    func push(_ event: Event, _ lane: Lane = .usual) -> Bool {
        let isTaken = lanes.withLock { lanes in
            switch lane {
            case .order where lanes.orders.count < eventsMax: lanes.orders.append(event)
            case .last: lanes.orders.insert(event, at: 0)
            case .usual where lanes.usual.count < eventsMax, .once: lanes.usual.append(event)
            case .order, .usual: return false
            }
            return true
        }
        wake.signal()
        return isTaken
    }

    /// The next event that is wanted, which leaves the others where they are; nil when none comes within the time.
    ///
    /// A negative time waits for ever.
    func next(timeoutMilliseconds: Int32, where isWanted: (Event) -> Bool = { _ in true }) -> Event? {
        let deadline = clinux_monotonic_milliseconds() + Int64(timeoutMilliseconds)
        while true {
            wake.drain()
            if let event = lanes.withLock({ $0.take(isWanted) }) { return event }
            let left = timeoutMilliseconds < 0 ? -1 : deadline - clinux_monotonic_milliseconds()
            if timeoutMilliseconds >= 0, left <= 0 { return nil }
            var descriptor = pollfd(fd: wake.rawValue, events: Int16(POLLIN), revents: 0)
            _ = clinux_poll(&descriptor, 1, Int32(clamping: left))
        }
    }
}
