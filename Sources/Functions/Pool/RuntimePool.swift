internal import CLinux
import Linux
import Synchronization

/// The machines of one runtime: an instance host, machines that are ready, and those who wait for one.
final class RuntimePool: Sendable {
    private typealias Waiter = CheckedContinuation<Result<PooledMachine, InstanceError>, Never>

    private struct Ready {
        let machine: PooledMachine
        /// The function whose memory it has mapped already.
        var launch: String?
    }
    private struct State {
        var host: InstanceHostLink?
        var registration: EventLoop.Registration?
        var machines: [String: PooledMachine] = [:]
        var ready: [Ready] = []
        /// Functions in use, the latest last: machines are bound to them ahead.
        var recent: [String] = []
        var making = 0
        var waiters: [Waiter] = []
        var made: UInt64 = 0
        var failures = 0
        var reason = ""
        var isEnded = false
        var known: [String] = []
        /// How often machines were bound ahead to each function.
        var bindings: [String: Int] = [:]
    }
    /// Machines that may fail to be made one after the other before nobody is made to wait any longer.
    private static let failuresMax = 3
    /// Functions that machines may be bound to ahead.
    private static let recentMax = 64
    /// Every so many machines bound ahead to a function are bound without its working set.
    private static let scoutPeriod = 256
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

    /// Whether nobody uses or awaits any of its machines.
    var isIdle: Bool { state.withLock { $0.waiters.isEmpty && $0.machines.count <= $0.ready.count + $0.making } }

    /// A machine that is ready, best with the function's memory mapped already, or the next one that will be.
    ///
    /// - Parameter fresh: whether to leave out those that are ready: what ended a machine may have ended all that there were,
    ///   as with their host, and there is no third try.
    func take(for launch: String, fresh: Bool) async throws(InstanceError) -> (machine: PooledMachine, kind: StartKind) {
        let found = state.withLock { state -> PooledMachine? in
            state.recent.removeAll { $0 == launch }
            state.recent.append(launch)
            if state.recent.count > RuntimePool.recentMax { state.recent.removeFirst() }
            state.ready.removeAll { !$0.machine.isAlive }
            if fresh { return nil }
            let index = state.ready.firstIndex { $0.launch == launch } ?? state.ready.firstIndex { $0.launch == nil }
            return index.map { state.ready.remove(at: $0).machine }
        }
        if let found {
            fillLater()
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
    ///
    /// Does so again when its working set has changed.
    func prepare(_ digest: String, again: Bool = false) {
        let host = state.withLock { state -> InstanceHostLink? in
            guard again || !state.known.contains(digest) else { return nil }
            if !again { state.known.append(digest) }
            if state.known.count > RuntimePool.knownMax { state.known.removeFirst() }
            return state.host
        }
        try? host?.socket.send(InstanceHostRequest(preparing: digest))
    }

    /// Makes up for a machine that was taken: not while the request that took it is being served, as long as there are others.
    private func fillLater() {
        if state.withLock({ $0.ready.isEmpty }) { return fill() }
        _ = Alarms.shared.set(milliseconds: configuration.fillMilliseconds) { [weak self] in self?.fill() }
    }

    /// Begins to make machines until enough are ready or under way.
    func fill() {
        while let name = next() {
            do throws(SystemError) {
                // With the lock held, so that the machine is known before its host tells of it.
                try state.withLock { (state) throws(SystemError) in
                    let link = try runningHost(&state).makeMachine(name)
                    state.machines[name] = try PooledMachine(link, loop: loop) { [weak self] machine, report in
                        self?.made(machine, report)
                    }
                }
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
            state.ready.append(Ready(machine: machine))
            return nil
        }
        waiter?.resume(returning: .success(machine))
        bindAhead()
        fill()
    }

    /// Binds a machine to a function in use that has none, as long as half of the machines stay for any function.
    private func bindAhead() {
        let chosen = state.withLock { state -> (machine: PooledMachine, launch: String, isScout: Bool)? in
            let bound = state.ready.compactMap(\.launch)
            guard bound.count < configuration.readyMax / 2, let launch = state.recent.last(where: { !bound.contains($0) }),
                let index = state.ready.lastIndex(where: { $0.launch == nil && $0.machine.isAlive })
            else { return nil }
            state.ready[index].launch = launch
            if state.bindings.count > RuntimePool.knownMax { state.bindings = [:] }
            let count = state.bindings[launch, default: 0] + 1
            state.bindings[launch] = count
            // Now and then without the working set, to see whether it still fits.
            return (state.ready[index].machine, launch, count % RuntimePool.scoutPeriod == 0)
        }
        guard let chosen else { return }
        // A restore that is asked for meanwhile is answered after this.
        chosen.machine.send(InstanceRequest(.bind, launch: chosen.launch, populates: !chosen.isScout)) { [weak self] report in
            guard report?.kind != .bound else { return }
            chosen.machine.close()
            self?.drop(chosen.machine)
        }
    }

    private func drop(_ machine: PooledMachine) {
        state.withLock { state in state.ready.removeAll { $0.machine === machine } }
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

    private func runningHost(_ state: inout State) throws(SystemError) -> InstanceHostLink {
        if let host = state.host { return host }
        let host = try InstanceHostLink(program: configuration.program, launchPath: launchPath, base: base)
        state.registration = try loop.register(host.socket.rawValue, .readable) { [weak self, weak host] _ in
            if let self, let host { self.receive(host) }
        }
        state.host = host
        for digest in state.known { try? host.socket.send(InstanceHostRequest(preparing: digest)) }
        return host
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
