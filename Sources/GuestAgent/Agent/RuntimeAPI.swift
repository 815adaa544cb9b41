import CAgent

/// The function of this guest: its runtime process, where it stands, and the request it works on.
///
/// It stands between the host (`FunctionLink`) and the runtime's connections to the Lambda runtime API (`RuntimeConnection`).
final class RuntimeAPI {
    private(set) var phase = FunctionPhase.idle
    private(set) var link: FunctionLink?
    private var process = RuntimeProcess()
    private var listening = false
    /// The connection on which the runtime waits for an answer of `restore/next` or `invocation/next`.
    private var waiting: RuntimeConnection?
    /// A request that the runtime has not taken yet.
    private var pending: FunctionInvoke?
    /// The request the runtime works on; empty: none.
    private var current = Text()
    /// The connection that gets the event of the request.
    private var receiver: RuntimeConnection?
    private var startedAt: Int64 = 0
    /// Whether the host knows that the runtime waits at `invocation/next`.
    private var announced = false
    /// Bytes of the event that the host has still to send.
    private(set) var eventBytesLeft = 0

    // MARK: - The host

    /// Takes the newest connection of the host.
    func attach(_ newcomer: FunctionLink, _ agent: Agent) {
        let former = link
        link = newcomer
        former?.close(agent)
    }

    /// Forgets a connection of the host; the runtime goes on, and what it says is kept as far as its pipes hold it.
    func detach(_ lost: FunctionLink, _ agent: Agent) {
        guard link === lost else { return }
        link = nil
        pending = nil
        if eventBytesLeft > 0 {
            // The runtime waits for the rest of an event that never comes.
            eventBytesLeft = 0
            receiver?.close(agent)
        }
        receiver = nil
        process.updateInterest(agent)
    }

    /// Tells a host that has just come where the runtime stands.
    func greet(_ agent: Agent) {
        announced = phase == .invocationNext
        link?.queue(.functionState, FunctionState(phase).encoded)
        if phase == .ended { link?.queue(.functionExited, process.status.encoded) }
        process.updateInterest(agent)
    }

    /// Starts the runtime; returns why it cannot be.
    func start(_ request: FunctionStart, _ agent: Agent) -> Failure? {
        if phase == .warm { return tell(request, agent) }
        guard phase == .idle || phase == .ended, agent.shutdown == nil else { return Failure(.limit, "one runtime at a time") }
        if let failure = listen(agent) { return failure }
        do throws(Failure) {
            try process.start(request, agent)
        } catch {
            return error
        }
        phase = .initializing
        announced = false
        link?.queue(.functionState, FunctionState(phase).encoded)
        return nil
    }

    /// Tells a warm runtime which function it is.
    private func tell(_ request: FunctionStart, _ agent: Agent) -> Failure? {
        guard let runtime = waiting else { return Failure(.noSession, "the warm runtime does not wait any more") }
        let identity: Identity
        do throws(Failure) { identity = try Spawner.identity(request.user) } catch { return error }
        if let failure = process.limit(request) { return failure }
        waiting = nil
        phase = .initializing
        announced = false
        link?.queue(.functionState, FunctionState(phase).encoded)
        runtime.answer(200, RuntimeAnswers.start(request, identity), agent)
        return nil
    }

    private func listen(_ agent: Agent) -> Failure? {
        guard !listening else { return nil }
        let opened = sys_listen_loopback(FunctionLimits.runtimePort)
        guard opened >= 0 else {
            return Failure(.system, errno: Int32(truncatingIfNeeded: -opened), "listen on 127.0.0.1:9001 for the runtime")
        }
        listening = true
        agent.loop.watch(RuntimeListener(Int32(truncatingIfNeeded: opened)), Events.input)
        return nil
    }

    /// Sets what must differ after a restore, then lets the runtime go on; returns what could not be set.
    func restored(_ request: FunctionRestored, _ agent: Agent) -> Failure? {
        if !request.entropy.isEmpty, let failure = SystemServices.reseed(ReseedRequest(entropy: request.entropy.bytes)) { return failure }
        if request.wallClockNanoseconds != 0, let failure = SystemServices.setClock(request.wallClockNanoseconds) { return failure }
        if !request.hostname.isEmpty, let failure = SystemServices.configure(ConfigureRequest(hostname: request.hostname), agent) {
            return failure
        }
        announced = false
        guard phase == .restoreNext, let runtime = waiting else { return nil }
        waiting = nil
        phase = .restoring
        runtime.answer(200, [], agent)
        return nil
    }

    /// Takes a request.
    ///
    /// - Throws: `.outOfOrder` when the one before is not answered.
    func invoke(_ request: FunctionInvoke, _ agent: Agent) throws(ProtocolFault) {
        guard pending == nil, current.isEmpty, eventBytesLeft == 0 else { throw ProtocolFault(.outOfOrder, at: 2) }
        eventBytesLeft = Int(request.payloadBytes)
        switch phase {
        case .idle: link?.queue(.failed, Failure(.noSession, "no runtime was started").encoded)
        case .ended: link?.queue(.functionExited, process.status.encoded)
        default:
            pending = request
            handOver(agent)
        }
    }

    /// Whether a piece of the event can be taken now; otherwise the host has to wait.
    var takesEvent: Bool { pending == nil && (receiver?.hasRoom ?? true) }

    /// Gives a piece of the event to the runtime, or drops it when there is none any more.
    func take(event bytes: [UInt8], _ agent: Agent) {
        eventBytesLeft -= bytes.count
        receiver?.queue(bytes)
        if eventBytesLeft == 0 { endEvent(agent) }
    }

    /// All that the host sent so far was taken.
    func endOfCommands(_ agent: Agent) {
        receiver?.flush(agent)
        announceIfReady()
    }

    /// Kills the runtime and all that it started.
    func kill() { process.kill() }

    /// Tells the host how much memory the runtime has had at most, if that is known.
    func tellMemory() {
        if let link, let memory = process.memory { link.queue(.functionMemory, memory.encoded) }
    }

    /// The host takes output again.
    func resumeOutput(_ agent: Agent) {
        process.updateInterest(agent)
        for connection in connections { connection.resumeInput(agent) }
    }

    private func announceIfReady() {
        guard phase == .invocationNext, !announced, pending == nil else { return }
        announced = true
        link?.queue(.functionState, FunctionState(phase).encoded)
    }

    // MARK: - The runtime

    private(set) var connections: [RuntimeConnection] = []

    /// Notes a connection of the runtime.
    func add(_ connection: RuntimeConnection) { connections.append(connection) }

    /// The runtime closed a connection, or it broke.
    func remove(_ connection: RuntimeConnection, _ agent: Agent) {
        connections.removeAll { $0 === connection }
        if waiting === connection {
            waiting = nil
            // It lives on without waiting; the host hears again when it comes back.
            if phase != .ended { phase = .initializing }
            announced = false
        }
        if receiver === connection {
            receiver = nil
            link?.resumeInput(agent)
        }
    }

    /// The runtime has taken some of the event.
    func receiverHasRoom(_ agent: Agent) { link?.resumeInput(agent) }

    /// The runtime asks for what comes next.
    func wait(_ connection: RuntimeConnection, for next: FunctionPhase, _ agent: Agent) {
        guard current.isEmpty else {
            return connection.refuse(403, "InvalidStateTransition", "the request before is not answered yet", agent)
        }
        // A runtime has one thread that waits: an older connection is one it gave up.
        let former = waiting
        waiting = nil
        former?.close(agent)
        waiting = connection
        phase = next
        if next != .invocationNext {
            link?.queue(.functionState, FunctionState(phase).encoded)
            link?.flush(agent)
        } else if pending != nil {
            handOver(agent)
            link?.resumeInput(agent)
            receiver?.flush(agent)
        } else if !announced {
            announceIfReady()
            link?.flush(agent)
        }
    }

    private func handOver(_ agent: Agent) {
        guard phase == .invocationNext, let request = pending, let runtime = waiting else { return }
        pending = nil
        waiting = nil
        phase = .serving
        announced = true
        current = request.requestIdentifier
        receiver = runtime
        runtime.queue(RuntimeAnswers.event(request))
        startedAt = sys_clock(CLOCK_MONOTONIC)
        if eventBytesLeft == 0 { endEvent(agent) }
    }

    private func endEvent(_ agent: Agent) {
        let runtime = receiver
        receiver = nil
        runtime?.endAnswer(agent)
    }

    /// Whether an answer to this request is expected.
    func expects(answerTo identifier: Text) -> Bool { !current.isEmpty && current == identifier }

    /// The runtime begins an answer.
    func begin(_ answer: FunctionAnswer) { link?.queue(.functionAnswer, answer.encoded) }

    /// The next bytes of the answer.
    func add(_ chunk: UnsafeRawBufferPointer) { link?.queue(.functionBody, chunk: chunk) }

    /// Sends what there is of the answer.
    func flushAnswer(_ agent: Agent) { link?.flush(agent) }

    /// Whether the host takes more of the answer now; without a host it goes nowhere.
    var takesAnswer: Bool { link?.hasRoom ?? true }

    /// The runtime's answer is over.
    func end(_ answer: FunctionAnswer, _ outcome: FunctionEnd.Outcome, _ agent: Agent) {
        let answersRequest = answer.kind == .response || answer.kind == .error
        let duration = answersRequest ? max(0, sys_clock(CLOCK_MONOTONIC) - startedAt) : 0
        if answersRequest { current = Text() }
        // What was written before the answer belongs to it.
        process.relayLog(agent)
        if answersRequest { tellMemory() }
        link?.queue(.functionEnd, FunctionEnd(outcome, durationNanoseconds: UInt64(duration)).encoded)
        link?.flush(agent)
    }

    /// A process of the guest ended; true when it was the runtime.
    func processEnded(_ number: Int32, _ status: ExitStatus, _ agent: Agent) -> Bool {
        guard process.ended(number, status, agent) else { return false }
        phase = .ended
        pending = nil
        current = Text()
        // Its connections may have been inherited by what it started; nobody is listened to any more.
        while let connection = connections.last { connection.close(agent) }
        tellMemory()
        link?.queue(.functionExited, status.encoded)
        link?.flush(agent)
        link?.resumeInput(agent)
        return true
    }
}
