internal import CLinux
import Linux
import Synchronization

/// The machines of one runtime: an instance host, machines that are ready, and those who wait for one.
final class RuntimePool: Sendable {
    private typealias Waiter = CheckedContinuation<Result<PooledMachine, InstanceError>, Never>

    private struct State {
        var host: InstanceHostLink?
        var registration: EventLoop.Registration?
        var machines: [String: PooledMachine] = [:]
        var ready: [PooledMachine] = []
        var making = 0
        var waiters: [Waiter] = []
        var made: UInt64 = 0
        var failures = 0
        var reason = ""
        var isEnded = false
        var known: [String] = []
    }
    /// Machines that may fail to be made one after the other before nobody is made to wait any longer.
    private static let failuresMax = 3
    /// Functions that a new host is told of.
    private static let knownMax = 1024

    private let base: String
    private let launchPath: String
    private let configuration: PoolConfiguration
    private let loop: EventLoop
    private let state = Mutex(State())

    init(base: String, launchPath: String, _ configuration: PoolConfiguration, loop: EventLoop) {
        self.base = base
        self.launchPath = launchPath
        self.configuration = configuration
        self.loop = loop
    }

    /// Machines that are ready, being made, and alive in all.
    var counts: (ready: Int, making: Int, alive: Int) { state.withLock { ($0.ready.count, $0.making, $0.machines.count) } }

    /// A machine that is ready, or the next one that will be.
    func take() async throws(InstanceError) -> (machine: PooledMachine, kind: StartKind) {
        let found = state.withLock { state -> PooledMachine? in
            while let machine = state.ready.popLast() {
                if machine.isAlive { return machine }
            }
            return nil
        }
        if let found {
            fill()
            return (found, .pooled)
        }
        let result: Result<PooledMachine, InstanceError> = await withCheckedContinuation { continuation in
            let isEnded = state.withLock { state in
                if !state.isEnded { state.waiters.append(continuation) }
                return state.isEnded
            }
            if isEnded { return continuation.resume(returning: .failure(.restore("the pool has ended"))) }
            fill()
        }
        return (try result.get(), .restored)
    }

    /// Has the host read a function's launch image, so that machines made from now on have it at hand.
    func prepare(_ digest: String) {
        let host = state.withLock { state -> InstanceHostLink? in
            guard !state.known.contains(digest) else { return nil }
            state.known.append(digest)
            if state.known.count > RuntimePool.knownMax { state.known.removeFirst() }
            return state.host
        }
        try? host?.socket.send(InstanceHostRequest(preparing: digest))
    }

    /// Begins to make machines until enough are ready or under way.
    func fill() {
        while let name = next() {
            do throws(SystemError) {
                let host = try runningHost()
                let machine = try PooledMachine(try host.makeMachine(name), loop: loop) { [weak self] machine, report in
                    self?.made(machine, report)
                }
                state.withLock { $0.machines[name] = machine }
            } catch {
                return failed("\(error)")
            }
        }
    }

    private func next() -> String? {
        state.withLock { state in
            guard !state.isEnded, state.failures < RuntimePool.failuresMax || !state.waiters.isEmpty else { return nil }
            let wanted = state.waiters.count + max(0, min(configuration.readyMax - state.ready.count, configuration.makingMax))
            guard state.making < wanted else { return nil }
            state.making += 1
            state.made += 1
            return "m\(state.made)"
        }
    }

    private func made(_ machine: PooledMachine, _ report: InstanceReport?) {
        guard let report, report.kind == .ready else {
            machine.close()
            return failed(report?.reason ?? (machine.reason.isEmpty ? "the machine ended before it was ready" : machine.reason))
        }
        let waiter = state.withLock { state -> Waiter? in
            state.making -= 1
            state.failures = 0
            if state.isEnded { return nil }
            if !state.waiters.isEmpty { return state.waiters.removeFirst() }
            state.ready.append(machine)
            return nil
        }
        waiter?.resume(returning: .success(machine))
        fill()
    }

    /// A machine could not be made: after several in a row, those who wait are told.
    private func failed(_ reason: String) {
        let waiters = state.withLock { state -> [Waiter] in
            state.making = max(0, state.making - 1)
            state.failures += 1
            state.reason = reason
            guard state.failures >= RuntimePool.failuresMax else { return [] }
            defer { state.waiters = [] }
            return state.waiters
        }
        for waiter in waiters { waiter.resume(returning: .failure(.restore(reason))) }
        if !state.withLock({ $0.waiters.isEmpty }) { fill() }
    }

    // MARK: - Host

    private func runningHost() throws(SystemError) -> InstanceHostLink {
        try state.withLock { (state) throws(SystemError) in
            if let host = state.host { return host }
            let host = try InstanceHostLink(program: configuration.program, launchPath: launchPath, base: base)
            state.registration = try loop.register(host.socket.rawValue, .readable) { [weak self, weak host] _ in
                if let self, let host { self.receive(host) }
            }
            state.host = host
            for digest in state.known { try? host.socket.send(InstanceHostRequest(preparing: digest)) }
            return host
        }
    }

    private func receive(_ host: InstanceHostLink) {
        while true {
            switch host.socket.receive(waits: false) {
            case .nothing: return
            case .closed: return lost(host)
            case .message(let bytes, _):
                guard let report = InstanceMessages.decode(bytes[...], as: InstanceHostReport.self) else { return lost(host) }
                heard(report)
            }
        }
    }

    private func heard(_ report: InstanceHostReport) {
        switch report.kind {
        case .ready: break
        case .failed: state.withLock { $0.reason = report.reason }
        case .started: state.withLock { $0.machines[report.machine] }?.started(report.process)
        case .ended, .refused: state.withLock { $0.machines.removeValue(forKey: report.machine) }?.ended()
        }
    }

    /// The host is gone, and with it all that it forked.
    private func lost(_ host: InstanceHostLink) {
        let (machines, registration) = state.withLock { state in
            defer { (state.host, state.registration, state.machines, state.ready) = (nil, nil, [:], []) }
            return (state.machines, state.registration)
        }
        if let registration { loop.unregister(registration) }
        host.end()
        for machine in machines.values { machine.ended() }
    }

    /// Why the host or a machine failed last.
    var reason: String { state.withLock { $0.reason } }

    /// Ends the host and all machines.
    func end() {
        let (host, waiters) = state.withLock { state in
            state.isEnded = true
            defer { state.waiters = [] }
            return (state.host, state.waiters)
        }
        for waiter in waiters { waiter.resume(returning: .failure(.restore("the pool has ended"))) }
        if let host { lost(host) }
    }
}
