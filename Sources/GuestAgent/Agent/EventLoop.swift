import CAgent

/// A descriptor the event loop watches.
///
/// Subclasses say what to do when it is ready.
class EventSource {
    fileprivate(set) var descriptor: Int32
    fileprivate var slot = -1
    fileprivate var interest: UInt32 = 0

    /// Takes ownership of a non-blocking descriptor.
    init(_ descriptor: Int32) { self.descriptor = descriptor }

    deinit { if descriptor >= 0 { _ = sys_close(descriptor) } }

    /// Whether the descriptor is still open.
    var isOpen: Bool { descriptor >= 0 }

    /// Called with the epoll events that are ready.
    func ready(_ events: UInt32, _ agent: Agent) {}
}

/// One epoll set and the sources in it.
///
/// Level-triggered; one event at a time.
final class EventLoop {
    private let epoll: Int32
    private var sources: [EventSource?] = []

    /// Makes the epoll set; nil when the kernel refuses.
    init?() {
        guard var set = Descriptor(result: sys_epoll_create()) else { return nil }
        epoll = set.release()
    }

    /// Watches for `events`; 0 takes the source out of the set, because epoll reports hang-ups even to those who asked for nothing.
    func watch(_ source: EventSource, _ events: UInt32) {
        guard source.isOpen, source.interest != events else { return }
        if source.slot < 0 {
            source.slot = sources.firstIndex { $0 == nil } ?? sources.count
            if source.slot == sources.count { sources.append(nil) }
            sources[source.slot] = source
        }
        let operation = source.interest == 0 ? EPOLL_CTL_ADD : events == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD
        _ = sys_epoll_ctl(epoll, operation, source.descriptor, events, UInt64(source.slot))
        source.interest = events
    }

    /// Takes the source out of the set and closes its descriptor.
    func close(_ source: EventSource) {
        guard source.isOpen else { return }
        if source.interest != 0 { _ = sys_epoll_ctl(epoll, EPOLL_CTL_DEL, source.descriptor, 0, 0) }
        if source.slot >= 0 { sources[source.slot] = nil }
        source.slot = -1
        source.interest = 0
        _ = sys_close(source.descriptor)
        source.descriptor = -1
    }

    /// Waits for one event and hands it to its source.
    ///
    /// `timeout` in milliseconds, -1 for none.
    func runOnce(timeout: Int32, _ agent: Agent) {
        var event = sys_event()
        guard sys_epoll_wait(epoll, &event, timeout) == 1 else { return }
        let slot = Int(truncatingIfNeeded: event.data)
        guard slot < sources.count, let source = sources[slot] else { return }
        source.ready(event.events, agent)
    }
}

/// The epoll event bits as plain integers.
enum Events {
    static let input: UInt32 = 0x001
    static let output: UInt32 = 0x004
    static let error: UInt32 = 0x008
    static let hangUp: UInt32 = 0x010
}
