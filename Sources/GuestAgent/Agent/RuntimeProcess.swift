import CAgent

/// The process of a function's runtime: its start in a control group of its own, its log, its end.
struct RuntimeProcess {
    private static let controlGroup: Text = "/sys/fs/cgroup/function"
    /// At most so much of the log is taken at once, so that a runtime that prints without end does not keep its own answer waiting.
    private static let relayBytesMax = 1_048_576

    /// Tells the runtime where its API is.
    static let address: Text = "AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001"

    private var number: Int32 = 0
    private var log: RuntimeLog?
    private var isContained = false
    /// How the last process ended.
    private(set) var status = ExitStatus(.code, 0)

    /// Starts the runtime.
    ///
    /// - Throws: `Failure` that says why it cannot be started.
    mutating func start(_ request: FunctionStart, _ agent: Agent) throws(Failure) {
        let identity = try Spawner.identity(request.user)
        isContained = agent.isGuest && request.processesMax > 0
        if isContained { try RuntimeProcess.makeControlGroup(request.processesMax) }
        let plan = StartRequest(
            arguments: request.arguments, environment: request.environment + [RuntimeProcess.address],
            directory: request.directory, user: request.user)
        var reading: Int32 = -1
        let streams = try Streams.joined(&reading, owner: identity)
        let output = RuntimeLog(reading)
        number = try Spawner.spawn(plan, identity, controlGroup: isContained ? RuntimeProcess.controlGroup : Text(), streams)
        log = output
        updateInterest(agent)
    }

    /// Limits a process that runs already; returns why it cannot be limited.
    func limit(_ request: FunctionStart) -> Failure? {
        guard isContained, request.processesMax > 0 else { return nil }
        do throws(Failure) {
            try RuntimeProcess.makeControlGroup(request.processesMax)
            return nil
        } catch { return error }
    }

    private static func makeControlGroup(_ processesMax: UInt32) throws(Failure) {
        // Memory is only counted; a kernel that does not count it does without.
        _ = Files.write("/sys/fs/cgroup/cgroup.subtree_control", "+memory", create: false)
        var result = Files.write("/sys/fs/cgroup/cgroup.subtree_control", "+pids", create: false)
        if result >= 0 {
            result = withCString(controlGroup) { sys_mkdir($0, 0o755) }
            if result == -Int(EEXIST) { result = 0 }
        }
        if result >= 0 { result = Files.write(controlGroup + "/pids.max", Text.decimal(Int(processesMax)), create: false) }
        guard result < 0 else { return }
        throw Failure(.system, errno: Int32(truncatingIfNeeded: -result), "limit the function's processes in " + controlGroup)
    }

    /// Watches the log while the host takes it.
    func updateInterest(_ agent: Agent) {
        guard let log else { return }
        agent.loop.watch(log, agent.function.link?.hasRoom ?? false ? Events.input : 0)
    }

    /// Relays what the runtime has written.
    func relayLog(_ agent: Agent) {
        guard let log else { return }
        var left = RuntimeProcess.relayBytesMax
        while left > 0, let count = log.relayOnce(agent) { left -= count }
    }

    /// The most memory that the runtime and all it started have had at once; nil when the kernel does not tell.
    var memory: FunctionMemory? {
        guard isContained, let text = Files.read(RuntimeProcess.controlGroup + "/memory.peak", bytesMax: 32) else { return nil }
        var scanner = TextScanner(text)
        return scanner.unsigned().map { FunctionMemory(peakBytes: $0) }
    }

    /// Kills the runtime and all that it started.
    func kill() {
        guard number > 0 else { return }
        if isContained {
            _ = Files.write(RuntimeProcess.controlGroup + "/cgroup.kill", "1", create: false)
        } else {
            _ = sys_kill(-number, SIGKILL)
        }
    }

    /// Notes the end of a process; true when it was the runtime's, whose log is then relayed.
    mutating func ended(_ number: Int32, _ status: ExitStatus, _ agent: Agent) -> Bool {
        guard number == self.number, number > 0 else { return false }
        // What it started must not outlive it.
        kill()
        self.number = 0
        self.status = status
        relayLog(agent)
        if let log { agent.loop.close(log) }
        log = nil
        return true
    }
}

/// The reading end of the runtime's standard output and standard error.
final class RuntimeLog: EventSource {
    override func ready(_ events: UInt32, _ agent: Agent) {
        guard let link = agent.function.link, link.hasRoom else { return agent.loop.watch(self, 0) }
        _ = relayOnce(agent)
        link.flush(agent)
        if isOpen && !link.hasRoom { agent.loop.watch(self, 0) }
    }

    /// Relays one chunk and returns its length; nil when there is nothing now or any more, or no host to take it.
    func relayOnce(_ agent: Agent) -> Int? {
        guard isOpen, let link = agent.function.link, link.hasRoom else { return nil }
        let got = sys_read(descriptor, agent.scratch.baseAddress, agent.scratch.count)
        if got == -Int(EAGAIN) || got == -Int(EINTR) { return nil }
        guard got > 0 else {
            agent.loop.close(self)
            return nil
        }
        link.queue(.functionLog, chunk: UnsafeRawBufferPointer(rebasing: agent.scratch[..<got]))
        return got
    }
}
