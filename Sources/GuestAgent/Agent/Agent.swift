import CAgent

/// Everything the agent knows, and its one thread of control.
final class Agent {
    /// The most descriptors of the agent, and what programs may raise their limit to (the limits of systemd).
    static let descriptorsMax: UInt64 = 524_288
    /// The limit that programs start with: some walk over all numbers below it.
    static let programDescriptorsMax: UInt64 = 1_024

    let options: Options
    let loop: EventLoop
    var console = Console()
    /// What went wrong while the guest started; told to every client.
    var bootFailures: [Text] = []
    var sessions: [Session] = []
    var connectionCount = 0
    var shutdown: Shutdown?
    /// The function that runs here, if one does.
    let function = RuntimeAPI()
    /// The module `unix_diag`, open and not loaded yet, or -1.
    var socketDiagnostics: Int32 = -1
    /// One buffer for all reads: the agent has one thread, and no read is kept in it across events.
    let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: AgentLimits.framePayloadBytesMax, alignment: 16)

    init(_ options: Options, _ loop: EventLoop) {
        self.options = options
        self.loop = loop
    }

    /// Whether this is a guest's process 1 rather than a test.
    var isGuest: Bool { options.testSocket == nil }

    /// Brings the guest up and starts to listen.
    func start() {
        if isGuest { Boot.run(self) } else { _ = SystemServices.raiseLoopback() }
        let signals = sys_signal_descriptor()
        if signals >= 0 {
            loop.watch(SignalSource(Int32(truncatingIfNeeded: signals)), Events.input)
        } else {
            report("cannot watch signals", signals)
        }
        protectFromMemoryShortage()
        _ = sys_limit_descriptors(Agent.descriptorsMax, Agent.descriptorsMax)
        listen()
    }

    private func listen() {
        let opened: Int
        if let path = options.testSocket {
            opened = withCString(path) { sys_listen_unix($0) }
        } else {
            opened = sys_listen_vsock(AgentLimits.vsockPort)
        }
        guard opened >= 0 else { return report("cannot listen for the host (are the vsock modules loaded?)", opened) }
        loop.watch(Listener(Int32(truncatingIfNeeded: opened)), Events.input)
        listenForFunctions()
        if isGuest { console.say("ready") }
    }

    private func listenForFunctions() {
        let opened: Int
        if let path = options.testSocket {
            opened = withCString(path + ".function") { sys_listen_unix($0) }
        } else {
            opened = sys_listen_vsock(FunctionLimits.vsockPort)
        }
        guard opened >= 0 else { return report("cannot listen for the host of a function", opened) }
        loop.watch(FunctionListener(Int32(truncatingIfNeeded: opened)), Events.input)
    }

    private func protectFromMemoryShortage() {
        _ = Files.write("/proc/self/oom_score_adj", "-1000", create: false)
    }

    /// Waits for one event and handles it, then what is due by time.
    func step() {
        loop.runOnce(timeout: timeoutMilliseconds(), self)
        let now = sys_clock(CLOCK_MONOTONIC)
        for session in sessions where session.isDrainOverdue(now) { session.finish(self) }
        shutdown?.advance(now, self)
    }

    private func timeoutMilliseconds() -> Int32 {
        var deadline = shutdown?.nextStep ?? Int64.max
        for session in sessions { deadline = min(deadline, session.drainDeadline) }
        guard deadline != Int64.max else { return -1 }
        let left = (deadline - sys_clock(CLOCK_MONOTONIC) + 999_999) / 1_000_000
        return Int32(truncatingIfNeeded: max(0, min(left, 60_000)))
    }

    /// Notes a failure on the console and for the host.
    func report(_ what: Text, _ result: Int = 0) {
        let line = result < 0 ? what + ": error " + Text.decimal(-result) : what
        console.say(line)
        if bootFailures.count < 32 { bootFailures.append(line) }
    }

    /// The session with this number, if the agent still has it.
    func session(_ processNumber: Int32) -> Session? { sessions.first { $0.processNumber == processNumber } }

    /// Forgets a session.
    func remove(_ session: Session) { sessions.removeAll { $0 === session } }

    /// Collects every process that has ended: sessions' own and orphans that were handed to process 1.
    func reap() {
        while true {
            var status: Int32 = 0
            let number = sys_wait_any(&status)
            guard number > 0 else { return }
            let ended =
                sys_exited(status) != 0
                ? ExitStatus(.code, UInt8(truncatingIfNeeded: sys_exit_code(status)))
                : ExitStatus(.signal, UInt8(truncatingIfNeeded: sys_term_signal(status)))
            let process = Int32(truncatingIfNeeded: number)
            if function.processEnded(process, ended, self) { continue }
            sessions.first { $0.processNumber == process && $0.status == nil }?.ended(ended, self)
        }
    }
}

/// SIGCHLD and the signals by which programs in the guest ask process 1 for a shutdown (busybox's convention).
final class SignalSource: EventSource {
    override func ready(_ events: UInt32, _ agent: Agent) {
        while true {
            let number = sys_read_signal(descriptor)
            guard number > 0 else { break }
            switch Int32(truncatingIfNeeded: number) {
            case SIGCHLD: agent.reap()
            case SIGTERM, SIGINT: agent.beginShutdown(ShutdownRequest(action: .reboot, graceMilliseconds: 5_000))
            default: agent.beginShutdown(ShutdownRequest(action: .powerOff, graceMilliseconds: 5_000))
            }
        }
    }
}

/// The socket on which the host connects.
final class Listener: EventSource {
    override func ready(_ events: UInt32, _ agent: Agent) {
        while true {
            let accepted = sys_accept(descriptor)
            guard accepted >= 0 else { return }
            let connection = Connection(Int32(truncatingIfNeeded: accepted))
            guard agent.connectionCount < AgentLimits.connectionsMax else { continue }
            agent.connectionCount += 1
            agent.loop.watch(connection, Events.input)
        }
    }
}
