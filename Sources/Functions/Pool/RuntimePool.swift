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
        /// When the host told of anything last, by the monotonic clock.
        var heardAt: Int64 = 0
        var machines: [String: PooledMachine] = [:]
        /// What ends the wait for machines that are being made.
        var limits: [String: UInt64] = [:]
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
    /// Held while a host is started, which `state` is not: requests look at that.
    private let starting = Mutex(())

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
        // Only a hint: a host that has no time for it now reads the image when it is needed.
        try? host?.socket.send(InstanceHostRequest(preparing: digest), waits: false)
    }

    /// Forgets a function's launch image, which is going to be removed, unless a machine is bound to it: true when it is not.
    ///
    /// Host and machines that are ready have it open; they are told, so that the disk gets its room back.
    func forget(_ digest: String) -> Bool {
        let told = state.withLock { state -> (InstanceHostLink?, [PooledMachine])? in
            guard !state.ready.contains(where: { $0.launch == digest }) else { return nil }
            state.recent.removeAll { $0 == digest }
            guard let index = state.known.firstIndex(of: digest) else { return (nil, []) }
            state.known.remove(at: index)
            state.bindings[digest] = nil
            return (state.host, state.ready.map(\.machine))
        }
        guard let (host, machines) = told else { return false }
        guard let host else { return true }
        try? host.socket.send(InstanceHostRequest(forgetting: digest), waits: false)
        for machine in machines { machine.send(InstanceRequest(.forget, launch: digest)) { _ in } }
        return true
    }

    /// Makes up for a machine that was taken: not while the request that took it is being served, as long as there are others.
    private func fillLater() {
        if state.withLock({ $0.ready.isEmpty }) { return fill() }
        _ = Alarms.shared.set(milliseconds: configuration.fillMilliseconds) { [weak self] in self?.fill() }
    }

    /// Begins to make machines until enough are ready or under way.
    func fill() {
        while let name = next() {
            do throws(SystemError) { try make(name) } catch { return failed("\(error)") }
        }
    }

    private func make(_ name: String) throws(SystemError) {
        let host = try runningHost()
        let (link, far) = try MachineLink.pair(name)
        let kill = { @Sendable [weak self] in self?.kill(name) ?? () }
        let machine = try PooledMachine(link, loop: loop, kill: kill) { [weak self] machine, report in self?.made(machine, report) }
        let limit = Alarms.shared.set(milliseconds: configuration.machineSeconds * 1000) { [weak self] in self?.giveUp(name) }
        // It is known before its host is asked for it, and so before that can tell of it.
        state.withLock { state in
            state.machines[name] = machine
            state.limits[name] = limit
        }
        do throws(SystemError) { try host.ask(for: name, far) } catch {
            // Whoever waits for it is told by its end.
            state.withLock { _ = $0.machines.removeValue(forKey: name) }
            machine.ended()
            if error.errno == .wouldBlock { replaceIfSilent() }
        }
    }

    /// A machine was not made in time: it is ended, and its host as well when it does not even tell that it has begun.
    private func giveUp(_ name: String) {
        guard let machine = state.withLock({ state in state.limits[name].flatMap { _ in state.machines[name] } }) else { return }
        let waiter = state.withLock { $0.waiters.isEmpty ? nil : $0.waiters.removeFirst() }
        machine.close("it was not made within \(configuration.machineSeconds) s")
        // Who has waited for so long is not made to wait for the next one.
        waiter?.resume(returning: .failure(.restore(machine.reason)))
        if machine.process == 0 { replaceIfSilent() }
    }

    /// Ends a host that tells nothing any more; the next machine gets another.
    private func replaceIfSilent() {
        let silent = state.withLock { state in
            MonotonicClock.nanoseconds - state.heardAt >= Int64(configuration.machineSeconds) * 1_000_000_000 ? state.host : nil
        }
        if let silent { lost(silent) }
    }

    private func kill(_ name: String) {
        try? state.withLock({ $0.host })?.socket.send(InstanceHostRequest(killing: name), waits: false)
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
        if let limit = state.withLock({ $0.limits.removeValue(forKey: machine.link.name) }) { Alarms.shared.cancel(limit) }
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

    private func runningHost() throws(SystemError) -> InstanceHostLink {
        try starting.withLock { (_) throws(SystemError) in
            if let host = state.withLock({ $0.host }) { return host }
            let host = try InstanceHostLink(program: configuration.program, launchPath: launchPath, base: base)
            let registration = try loop.register(host.socket.rawValue, .readable) { [weak self, weak host] _ in
                if let self, let host { self.receive(host) }
            }
            let known = state.withLock { state -> [String]? in
                if state.isEnded { return nil }
                (state.host, state.registration, state.heardAt) = (host, registration, MonotonicClock.nanoseconds)
                return state.known
            }
            guard let known else {
                loop.unregister(registration)
                host.end()
                throw SystemError("start", "the instance host", errno: Errno(rawValue: ECANCELED))
            }
            for digest in known { try? host.socket.send(InstanceHostRequest(preparing: digest), waits: false) }
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
        state.withLock { $0.heardAt = MonotonicClock.nanoseconds }
        switch report.kind {
        case .ready: break
        case .failed: state.withLock { $0.reason = report.reason }
        case .started: state.withLock { $0.machines[report.machine] }?.started(report.process)
        case .ended, .refused: state.withLock { $0.machines.removeValue(forKey: report.machine) }?.ended()
        }
    }

    /// The host is gone, and with it all that it forked.
    private func lost(_ host: InstanceHostLink, waits: Bool = false) {
        let found = state.withLock { state -> ([String: PooledMachine], EventLoop.Registration?)? in
            guard state.host === host else { return nil }
            defer { (state.host, state.registration, state.machines, state.ready) = (nil, nil, [:], []) }
            return (state.machines, state.registration)
        }
        guard let (machines, registration) = found else { return }
        if let registration { loop.unregister(registration) }
        if waits { host.end() } else { host.endLater() }
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
        if let host { lost(host, waits: true) }
    }
}
