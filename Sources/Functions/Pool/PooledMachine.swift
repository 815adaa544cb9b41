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
    }
    let link: MachineLink
    private let loop: EventLoop
    private let state = Mutex(State())

    /// Follows a machine that was asked for; `ready` is called once, with nil when it will never be.
    init(_ link: MachineLink, loop: EventLoop, ready: @escaping @Sendable (PooledMachine, InstanceReport?) -> Void) throws(SystemError) {
        self.link = link
        self.loop = loop
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
            do throws(SystemError) { try link.control.send(request) } catch { return false }
            state.waiters.append(answer)
            return true
        }
        if !isSent { answer(nil) }
    }

    /// Sends a request and waits for its answer; a machine that takes too long is ended.
    func request(_ request: InstanceRequest, seconds: Int) async -> InstanceReport? {
        let limit = Alarms.shared.set(milliseconds: seconds * 1000) { [self] in close() }
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

    /// Ends the machine: its process sees the end of the control socket.
    func close() {
        let (waiters, registration, closed) = state.withLock { state in
            defer { (state.waiters, state.registration, state.closed, state.isClosed) = ([], nil, nil, true) }
            return (state.waiters, state.registration, state.closed)
        }
        if let registration { loop.unregister(registration) }
        _ = clinux_shutdown(link.control.rawValue, Int32(SHUT_RDWR))
        _ = clinux_shutdown(link.channel.rawValue, Int32(SHUT_RDWR))
        for waiter in waiters { waiter(nil) }
        closed?()
    }

    // MARK: - What its host tells

    func started(_ process: Int32) { state.withLock { $0.process = process } }

    /// The process is gone.
    func ended() {
        close()
        let waiters = state.withLock { state in
            state.hasEnded = true
            defer { state.endWaiters = [] }
            return state.endWaiters
        }
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
