internal import CLinux
internal import Linux
import Synchronization

/// Events from any thread for one thread that waits for them.
final class EventQueue<Event: Sendable>: Sendable {
    private let events = Mutex<[Event]>([])
    private let wake: EventDescriptor

    init() throws(SystemError) { wake = try EventDescriptor() }

    /// Adds an event and wakes the waiting thread.
    func push(_ event: Event) {
        events.withLock { $0.append(event) }
        wake.signal()
    }

    /// The next event; nil when none comes within the time.
    ///
    /// A negative time waits for ever.
    func next(timeoutMilliseconds: Int32) -> Event? {
        let deadline = clinux_monotonic_milliseconds() + Int64(timeoutMilliseconds)
        while true {
            if let event = events.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) { return event }
            wake.drain()
            if let event = events.withLock({ $0.isEmpty ? nil : $0.removeFirst() }) { return event }
            let left = timeoutMilliseconds < 0 ? -1 : deadline - clinux_monotonic_milliseconds()
            if timeoutMilliseconds >= 0, left <= 0 { return nil }
            var descriptor = pollfd(fd: wake.rawValue, events: Int16(POLLIN), revents: 0)
            _ = clinux_poll(&descriptor, 1, Int32(clamping: left))
        }
    }
}
