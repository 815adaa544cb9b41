internal import CLinux
import Synchronization

/// One thread that waits for descriptors and calls their handlers, one after the other.
///
/// A checkpoint needs the devices to stand still: after `quiesce()` no handler runs until `resume()`. What becomes ready
/// meanwhile is kept by the kernel (epoll is used level-triggered), so nothing is lost and nothing has to be woken.
public final class EventLoop: Sendable {
    /// What a descriptor is waited for, and what was found.
    public struct Interest: OptionSet, Sendable, Hashable {
        /// The bits of epoll(7).
        public let rawValue: UInt32
        /// Wraps epoll bits.
        public init(rawValue: UInt32) { self.rawValue = rawValue }
        /// Reading does not block.
        public static let readable = Interest(rawValue: UInt32(bitPattern: Int32(EPOLLIN.rawValue)))
        /// Writing does not block.
        public static let writable = Interest(rawValue: UInt32(bitPattern: Int32(EPOLLOUT.rawValue)))
        /// The peer has shut down its writing side.
        public static let peerShutDown = Interest(rawValue: UInt32(bitPattern: Int32(EPOLLRDHUP.rawValue)))
        /// Both directions are closed, or the descriptor failed.
        ///
        /// Always reported.
        public static let closed = Interest(rawValue: UInt32(bitPattern: Int32(EPOLLHUP.rawValue | EPOLLERR.rawValue)))
    }

    /// Called on the loop's thread with what was found.
    public typealias Handler = @Sendable (Interest) -> Void

    /// The receipt of `register`, needed to change or end the registration.
    public struct Registration: Hashable, Sendable {
        let identifier: UInt64
        let descriptor: Int32
    }

    private let core: LoopCore

    /// Starts the loop's thread.
    ///
    /// - Parameter name: shown by `ps -L` and debuggers; the kernel keeps 15 bytes.
    /// - Throws: `SystemError` when the process has no room for descriptors or threads.
    public init(name: String) throws(SystemError) {
        core = try LoopCore(name: name)
        try core.startThread()
    }

    deinit { core.stop(seconds: Self.handlerSecondsMax) }

    /// Calls `handler` on the loop's thread whenever the descriptor is ready.
    ///
    /// The descriptor must stay open until `unregister`.
    ///
    /// - Throws: `SystemError` for a descriptor that cannot be polled.
    public func register(
        _ descriptor: Int32, _ interest: Interest = .readable, handler: @escaping Handler
    ) throws(SystemError) -> Registration {
        try core.register(descriptor, interest, handler)
    }

    /// Changes what a registered descriptor is waited for; an empty set waits for `closed` alone.
    ///
    /// - Throws: `SystemError` when the descriptor is not registered any more.
    public func change(_ registration: Registration, to interest: Interest) throws(SystemError) {
        let epoll = core.epoll.rawValue
        try systemCall("change the events of", "descriptor \(registration.descriptor)") {
            clinux_epoll_ctl(epoll, EPOLL_CTL_MOD, registration.descriptor, interest.rawValue, registration.identifier)
        }
    }

    /// How long a handler may take before whoever waits for it gives the loop up, in seconds: a disk's flush is the longest that is usual.
    public static let handlerSecondsMax = 60

    /// Ends a registration: no call of its handler begins after this.
    ///
    /// Call it before closing the descriptor.
    ///
    /// - Parameter waits: also for a call that has begun; not on the loop's own thread, and not with a lock that the handler takes.
    public func unregister(_ registration: Registration, waits: Bool = false) {
        let isRunning = core.handlers.remove(registration.identifier)
        _ = clinux_epoll_ctl(core.epoll.rawValue, EPOLL_CTL_DEL, registration.descriptor, 0, 0)
        if waits, isRunning, !core.isCurrentThread, core.gate.close(seconds: Self.handlerSecondsMax) { core.gate.open() }
    }

    /// Runs a closure on the loop's thread, after the handlers that are due now; when the loop has ended it is let go instead.
    public func run(_ work: @escaping @Sendable () -> Void) {
        core.work.append(work)
        core.wake.signal()
    }

    /// Returns when no handler runs, and keeps them from running until `resume()`.
    ///
    /// Calls nest. Must not be called on the loop's own thread.
    ///
    /// - Returns: false when a handler ran for all of `seconds`; then nothing is kept from running.
    @discardableResult
    public func quiesce(seconds: Int = EventLoop.handlerSecondsMax) -> Bool {
        precondition(!core.isCurrentThread, "an event loop cannot quiesce itself")
        return core.gate.close(seconds: seconds)
    }

    /// Lets handlers run again after as many `resume()` as there were `quiesce()`.
    public func resume() { core.gate.open() }

    /// Whether somebody waits in `quiesce()`: a handler with much to do should leave the rest for later.
    public var isWaitedFor: Bool { core.gate.isClosing.load(ordering: .relaxed) }

    /// Ends the thread and waits for it; handlers are released.
    ///
    /// Idempotent.
    ///
    /// - Returns: false when a handler ran for all of `seconds`; the thread then lives on, and ends when its handler does.
    @discardableResult
    public func stop(seconds: Int = EventLoop.handlerSecondsMax) -> Bool { core.stop(seconds: seconds) }

    /// Whether the caller runs on the loop's thread.
    public var isCurrentThread: Bool { core.isCurrentThread }
}

/// What the loop's thread keeps alive; apart from `EventLoop`, so that dropping the loop ends the thread.
///
/// `@unchecked Sendable`: `thread` is written once before the thread can be seen by anyone else, `joined` decides who joins.
private final class LoopCore: @unchecked Sendable {
    static let batch = 64
    let name: String
    let epoll: OwnedDescriptor
    let wake: EventDescriptor
    let gate = LoopGate()
    let handlers = HandlerTable()
    let work = WorkList()
    private let nextIdentifier = Atomic<UInt64>(1)
    private let stopping = Atomic<Bool>(false)
    private let joined = Atomic<Bool>(false)
    private var thread = pthread_t()

    init(name: String) throws(SystemError) {
        self.name = name
        epoll = OwnedDescriptor(adopting: Int32(try systemCall("create", "an epoll set") { clinux_epoll_create() }))
        wake = try EventDescriptor()
        let set = epoll.rawValue
        let event = wake.rawValue
        try systemCall("watch", "eventfd") { clinux_epoll_ctl(set, EPOLL_CTL_ADD, event, EventLoop.Interest.readable.rawValue, 0) }
    }

    var isCurrentThread: Bool { pthread_equal(pthread_self(), thread) != 0 }

    func startThread() throws(SystemError) {
        let argument = Unmanaged.passRetained(self)
        let result = pthread_create(
            &thread, nil,
            { @Sendable argument in
                guard let argument else { return nil }
                Unmanaged<LoopCore>.fromOpaque(argument).takeRetainedValue().main()
                return nil
            }, argument.toOpaque())
        if result != 0 {
            argument.release()
            stopping.store(true, ordering: .releasing)
            joined.store(true, ordering: .releasing)
            gate.end()
            throw SystemError("start", "thread \(name)", errno: Errno(rawValue: result))
        }
    }

    func register(
        _ descriptor: Int32, _ interest: EventLoop.Interest, _ handler: @escaping EventLoop.Handler
    ) throws(SystemError) -> EventLoop.Registration {
        let identifier = nextIdentifier.add(1, ordering: .relaxed).oldValue
        handlers.add(identifier, handler)
        do throws(SystemError) {
            try systemCall("watch", "descriptor \(descriptor)") {
                clinux_epoll_ctl(epoll.rawValue, EPOLL_CTL_ADD, descriptor, interest.rawValue, identifier)
            }
        } catch {
            _ = handlers.remove(identifier)
            throw error
        }
        return EventLoop.Registration(identifier: identifier, descriptor: descriptor)
    }

    @discardableResult
    func stop(seconds: Int) -> Bool {
        stopping.store(true, ordering: .releasing)
        gate.abandon()
        wake.signal()
        if isCurrentThread {
            if !joined.exchange(true, ordering: .acquiringAndReleasing) { pthread_detach(thread) }
            return true
        }
        guard gate.waitForEnd(seconds: seconds) else { return false }
        if !joined.exchange(true, ordering: .acquiringAndReleasing) { pthread_join(thread, nil) }
        release()
        return true
    }

    /// Handlers may own what owns the loop, so they are let go when the loop ends.
    private func release() {
        handlers.removeAll()
        work.end()
    }

    private func main() {
        _ = name.withCString { clinux_set_thread_name($0) }
        let events = UnsafeMutablePointer<epoll_event>.allocate(capacity: Self.batch)
        defer { events.deallocate() }
        while !stopping.load(ordering: .acquiring) {
            let found = clinux_epoll_wait(epoll.rawValue, events, Int32(Self.batch), -1)
            if found < 0 { continue }
            for index in 0..<Int(found) where !stopping.load(ordering: .acquiring) { dispatch(events + index) }
        }
        release()
        gate.end()
    }

    private func dispatch(_ event: UnsafeMutablePointer<epoll_event>) {
        let identifier = clinux_epoll_data(event)
        gate.enter()
        defer { gate.leave() }
        if stopping.load(ordering: .acquiring) { return }
        if identifier == 0 { return runWork() }
        guard let handler = handlers.begin(identifier) else { return }
        defer { handlers.end() }
        handler(EventLoop.Interest(rawValue: event.pointee.events))
    }

    private func runWork() {
        wake.drain()
        for item in work.takeAll() { item() }
    }
}

/// The handlers of a loop, and which of them runs.
///
/// Handlers leave the lock before they are destroyed: a deinit may unregister another one.
private final class HandlerTable: Sendable {
    private struct State {
        var handlers: [UInt64: EventLoop.Handler] = [:]
        var running: UInt64?
    }
    private let state = Mutex(State())

    func add(_ identifier: UInt64, _ handler: @escaping EventLoop.Handler) { state.withLock { $0.handlers[identifier] = handler } }

    /// Takes a handler out; answers whether a call of it has begun.
    func remove(_ identifier: UInt64) -> Bool {
        let (handler, isRunning) = state.withLock { ($0.handlers.removeValue(forKey: identifier), $0.running == identifier) }
        return withExtendedLifetime(handler) { isRunning }
    }

    func removeAll() {
        let former = state.withLock { state in
            defer { state.handlers = [:] }
            return state.handlers
        }
        withExtendedLifetime(former) {}
    }

    /// The handler to be called now; nil when it was taken out before.
    func begin(_ identifier: UInt64) -> EventLoop.Handler? {
        state.withLock { state in
            let handler = state.handlers[identifier]
            if handler != nil { state.running = identifier }
            return handler
        }
    }

    func end() { state.withLock { $0.running = nil } }
}

/// What a loop has been asked to run.
private final class WorkList: Sendable {
    private struct State {
        var items: [@Sendable () -> Void] = []
        var hasEnded = false
    }
    private let state = Mutex(State())

    func append(_ work: @escaping @Sendable () -> Void) {
        state.withLock { if !$0.hasEnded { $0.items.append(work) } }
    }

    func takeAll() -> [@Sendable () -> Void] {
        state.withLock { state in
            defer { state.items = [] }
            return state.items
        }
    }

    func end() {
        let former = state.withLock { state in
            defer { (state.items, state.hasEnded) = ([], true) }
            return state.items
        }
        withExtendedLifetime(former) {}
    }
}

/// Lets one thread run handlers, and others keep it out.
///
/// `@unchecked Sendable`: the counters are only touched under the mutex, which never moves.
private final class LoopGate: @unchecked Sendable {
    /// Whether somebody keeps handlers out, or waits for one to leave.
    let isClosing = Atomic(false)
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    private var closers = 0 { didSet { isClosing.store(closers > 0, ordering: .relaxed) } }
    private var isInside = false
    private var isAbandoned = false
    private var hasEnded = false

    init() {
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_mutex_destroy(mutex)
        pthread_cond_destroy(condition)
        mutex.deallocate()
        condition.deallocate()
    }

    /// Waits with the mutex held; false when the time is over first.
    private func wait(seconds: Int, for isReached: () -> Bool) -> Bool {
        var deadline = timespec()
        clock_gettime(CLOCK_MONOTONIC, &deadline)
        deadline.tv_sec += seconds
        while !isReached() {
            if pthread_cond_timedwait(condition, mutex, &deadline) == ETIMEDOUT { return isReached() }
        }
        return true
    }

    func enter() {
        pthread_mutex_lock(mutex)
        while closers > 0, !isAbandoned { pthread_cond_wait(condition, mutex) }
        isInside = true
        pthread_mutex_unlock(mutex)
    }

    func leave() {
        pthread_mutex_lock(mutex)
        isInside = false
        if closers > 0 { pthread_cond_broadcast(condition) }
        pthread_mutex_unlock(mutex)
    }

    func close(seconds: Int) -> Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        closers += 1
        if wait(seconds: seconds, for: { !isInside }) { return true }
        closers -= 1
        pthread_cond_broadcast(condition)
        return false
    }

    func open() {
        pthread_mutex_lock(mutex)
        precondition(closers > 0, "resume() without quiesce()")
        closers -= 1
        pthread_cond_broadcast(condition)
        pthread_mutex_unlock(mutex)
    }

    /// Lets a closed-out thread pass so that it can see that it shall end.
    func abandon() {
        pthread_mutex_lock(mutex)
        isAbandoned = true
        pthread_cond_broadcast(condition)
        pthread_mutex_unlock(mutex)
    }

    /// The thread touches nothing any more.
    func end() {
        pthread_mutex_lock(mutex)
        hasEnded = true
        pthread_cond_broadcast(condition)
        pthread_mutex_unlock(mutex)
    }

    func waitForEnd(seconds: Int) -> Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        return wait(seconds: seconds) { hasEnded }
    }
}
