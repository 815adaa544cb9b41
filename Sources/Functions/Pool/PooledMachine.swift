internal import CLinux
import Linux
import Synchronization

/// One machine of the pool, from its making to its end, as its control socket tells.
///
/// Requests are answered in the order in which they were sent.
final class PooledMachine: Sendable {
    private struct State {
        var waiters: [@Sendable (InstanceReport?) -> Void] = []
        var registration: EventLoop.Registration?
        var process: Int32 = 0
        var isClosed = false
        var hasEnded = false
        var reason = ""
        var endWaiters: [CheckedContinuation<Void, Never>] = []
        var closed: (@Sendable () -> Void)?
        /// Rings when the process should have ended by itself.
        var alarm: UInt64?
    }
    /// Milliseconds that a process has to end by itself, and once more after it was killed.
    private static let endMilliseconds = 5_000

    let link: MachineLink
    /// Has the process killed.
    private let kill: @Sendable () -> Void
    private let loop: EventLoop
    private let state = Mutex(State())

    /// Follows a machine that was asked for, or is going to be.
    ///
    /// - Parameters:
    ///   - kill: has the process killed when it does not end by itself.
    ///   - ready: called once, with nil when it will never be ready.
    init(
        _ link: MachineLink, loop: EventLoop, kill: @escaping @Sendable () -> Void = {},
        ready: @escaping @Sendable (PooledMachine, InstanceReport?) -> Void
    ) throws(SystemError) {
        self.link = link
        self.loop = loop
        self.kill = kill
        state.withLock { $0.waiters = [{ [self] in ready(self, $0) }] }
        // Level-triggered: what arrives before the registration is noted is handled all the same.
        let registration = try loop.register(link.control.rawValue, .readable) { [weak self] _ in self?.receive() }
        state.withLock { $0.registration = registration }
    }

    var process: Int32 { state.withLock { $0.process } }
    var isAlive: Bool { state.withLock { !$0.isClosed } }
    /// Why it ended, as far as it told.
    var reason: String { state.withLock { $0.reason } }

    /// Has one function called when the control socket is closed; at once when it is.
    func whenClosed(_ body: @escaping @Sendable () -> Void) {
        let isClosed = state.withLock { state in
            if !state.isClosed { state.closed = body }
            return state.isClosed
        }
        if isClosed { body() }
    }

    /// Sends a request; `answer` is called once, with nil when the machine ended first.
    func send(_ request: InstanceRequest, _ answer: @escaping @Sendable (InstanceReport?) -> Void) {
        let isSent = state.withLock { state in
            guard !state.isClosed else { return false }
            // With the lock held, so that answers come in the order of their waiters; it never waits for room.
            do throws(SystemError) { try link.control.send(request, waits: false) } catch { return false }
            state.waiters.append(answer)
            return true
        }
        if isSent { return }
        // One that does not read is of no use; whoever sends may hold what its end has to tell.
        _ = Alarms.shared.set(milliseconds: 0) { [weak self] in self?.close("it does not take requests") }
        answer(nil)
    }

    /// Sends a request and waits for its answer; a machine that takes too long is ended.
    func request(_ request: InstanceRequest, seconds: Int) async -> InstanceReport? {
        let limit = Alarms.shared.set(milliseconds: seconds * 1000) { [self] in close("it took over \(seconds) s") }
        defer { Alarms.shared.cancel(limit) }
        return await withCheckedContinuation { continuation in send(request) { continuation.resume(returning: $0) } }
    }

    private func receive() {
        while true {
            switch link.control.receive(waits: false) {
            case .nothing: return
            case .closed: return close()
            case .message(let bytes, _):
                guard let report = InstanceMessages.decode(bytes[...], as: InstanceReport.self) else { return close() }
                if report.kind == .ended || report.kind == .failed { state.withLock { $0.reason = report.reason } }
                if report.kind == .ended { return close() }
                let waiter = state.withLock { $0.waiters.isEmpty ? nil : $0.waiters.removeFirst() }
                waiter?(report)
            }
        }
    }

    /// Ends the machine: its process sees the end of the control socket, and is killed when it does not.
    func close(_ reason: String = "") {
        let (waiters, registration, closed, isFirst) = state.withLock { state in
            defer { (state.waiters, state.registration, state.closed, state.isClosed) = ([], nil, nil, true) }
            if state.reason.isEmpty { state.reason = reason }
            return (state.waiters, state.registration, state.closed, !state.isClosed && !state.hasEnded)
        }
        if let registration { loop.unregister(registration, waits: true) }
        _ = clinux_shutdown(link.control.rawValue, Int32(SHUT_RDWR))
        _ = clinux_shutdown(link.channel.rawValue, Int32(SHUT_RDWR))
        if isFirst { watchEnd(isKilled: false) }
        for waiter in waiters { waiter(nil) }
        closed?()
    }

    /// Waits for the process' end, but not for ever.
    private func watchEnd(isKilled: Bool) {
        let alarm = Alarms.shared.set(milliseconds: PooledMachine.endMilliseconds) { [weak self] in
            guard let self, !state.withLock({ $0.hasEnded }) else { return }
            // Its host does not tell of its end: whoever waits for that has waited enough.
            if isKilled { return ended() }
            kill()
            watchEnd(isKilled: true)
        }
        let isLate = state.withLock { state in
            if !state.hasEnded { state.alarm = alarm }
            return state.hasEnded
        }
        if isLate { Alarms.shared.cancel(alarm) }
    }

    // MARK: - What its host tells

    func started(_ process: Int32) { state.withLock { $0.process = process } }

    /// The process is gone.
    func ended() {
        let (waiters, alarm) = state.withLock { state in
            state.hasEnded = true
            defer { (state.endWaiters, state.alarm) = ([], nil) }
            return (state.endWaiters, state.alarm)
        }
        if let alarm { Alarms.shared.cancel(alarm) }
        close()
        for waiter in waiters { waiter.resume() }
    }

    /// Ends the machine, and returns when its process is gone.
    func end() async {
        close()
        await withCheckedContinuation { continuation in
            let hasEnded = state.withLock { state in
                if !state.hasEnded { state.endWaiters.append(continuation) }
                return state.hasEnded
            }
            if hasEnded { continuation.resume() }
        }
    }
}
