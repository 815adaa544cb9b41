import CAgent

/// A program started for a client: its streams, its end, and the connection that listens to it.
final class Session {
    /// How long a terminal is read after its first process ended without a hang-up: line output may still be on its way.
    private static let terminalDrainNanoseconds: Int64 = 100_000_000

    let processNumber: Int32
    let survivesDisconnect: Bool
    private(set) var status: ExitStatus?
    private(set) var drainDeadline = Int64.max
    private var connection: Connection?
    private var request: UInt32
    private var input: ChildStream?
    private var outputs: [ChildStream]
    private let isTerminal: Bool
    private var inputWindow = AgentLimits.stdinWindowBytes
    private var pendingCredit = 0
    private var sent = SentOutput()

    init(
        _ processNumber: Int32, _ plan: StartRequest, input: ChildStream?, outputs: [ChildStream], _ connection: Connection,
        _ request: UInt32
    ) {
        self.processNumber = processNumber
        survivesDisconnect = plan.survivesDisconnect
        isTerminal = plan.terminal != nil
        self.input = input
        self.outputs = outputs
        self.connection = connection
        self.request = request
    }

    /// Tells the client and begins to relay.
    func begin(_ agent: Agent) {
        // The kernel gives numbers again: an ended session of this one's is not asked for any more.
        agent.sessions.removeAll { $0.processNumber == processNumber }
        agent.sessions.append(self)
        input?.session = self
        for output in outputs { output.session = self }
        connection?.send(.started, request: request, SessionNumber(processNumber).encoded, agent)
        resumeOutput(agent)
    }

    /// Connects a client to a session that went on without one, or takes it over from another.
    func attach(_ newcomer: Connection, _ number: UInt32, receivedBytes: UInt64?, _ agent: Agent) {
        if let former = connection {
            former.session = nil
            former.fail(request, Failure(.noSession, "another client attached"), agent)
        }
        connection = newcomer
        newcomer.session = self
        request = number
        newcomer.send(.started, request: request, SessionNumber(processNumber).encoded, agent)
        if let receivedBytes {
            sent.replay(from: receivedBytes) { newcomer.send($0, request: number, chunk: $1, agent) }
        }
        // The newcomer starts with a full window less what is still queued for the program.
        inputWindow = AgentLimits.stdinWindowBytes - (input?.pendingInput ?? 0)
        pendingCredit = 0
        if inputWindow > 0 { newcomer.send(.stdinCredit, request: request, StdinCredit(UInt32(inputWindow)).encoded, agent) }
        resumeOutput(agent)
        if status != nil { drainAfterEnd(agent) }
    }

    /// The client is gone: an application goes on, anything else is hung up.
    func connectionLost(_ agent: Agent) {
        connection = nil
        if survivesDisconnect {
            for output in outputs { agent.loop.watch(output, output.interest(reading: false)) }
            return
        }
        if status == nil { _ = sys_kill(-processNumber, SIGHUP) }
        closeStreams(agent)
        if status != nil { agent.remove(self) }
    }

    /// Handles a client's stream message.
    ///
    /// - Throws: `ProtocolFault` when it is malformed or exceeds the window.
    func receive(_ message: Frame, _ agent: Agent) throws(ProtocolFault) {
        switch message.type {
        case .stdin:
            guard message.payload.count <= inputWindow else { throw ProtocolFault(.windowExceeded) }
            inputWindow -= message.payload.count
            if let input { input.write(message.payload, agent) } else { grant(message.payload.count, agent) }
        case .stdinEnd:
            input?.endInput(isTerminal: isTerminal, agent)
        default:
            let size = try WindowSize(payload: message.payload)
            guard isTerminal, let terminal = outputs.first, terminal.isOpen else { return }
            _ = sys_set_window(terminal.descriptor, size.rows, size.columns)
        }
    }

    /// The program took (or will never take) input: the client may send more.
    ///
    /// Small grants are saved up.
    func grant(_ bytes: Int, _ agent: Agent) {
        // A terminal's end-of-file character is taken as well, but no client sent it: it must not widen the window.
        pendingCredit = min(pendingCredit + bytes, AgentLimits.stdinWindowBytes - inputWindow)
        guard pendingCredit > AgentLimits.stdinWindowBytes / 4 || (input?.pendingInput ?? 0) == 0, pendingCredit > 0 else { return }
        inputWindow += pendingCredit
        connection?.send(.stdinCredit, request: request, StdinCredit(UInt32(truncatingIfNeeded: pendingCredit)).encoded, agent)
        pendingCredit = 0
    }

    /// Relays output; false when the client has no room for more.
    func relay(_ type: MessageType, _ chunk: UnsafeRawBufferPointer, _ agent: Agent) {
        if survivesDisconnect { sent.append(type, chunk) }
        connection?.send(type, request: request, chunk: chunk, agent)
        if !canRelay { for output in outputs { agent.loop.watch(output, output.interest(reading: false)) } }
    }

    /// Whether output may be read from the program now.
    var canRelay: Bool { connection?.hasRoom ?? false }

    /// The client has room again.
    func resumeOutput(_ agent: Agent) {
        guard canRelay else { return }
        for output in outputs { agent.loop.watch(output, output.interest(reading: true)) }
        if status != nil { drainAfterEnd(agent) }
    }

    /// The program's first process ended.
    func ended(_ status: ExitStatus, _ agent: Agent) {
        self.status = status
        if connection == nil && !survivesDisconnect {
            closeStreams(agent)
            agent.remove(self)
            return
        }
        drainAfterEnd(agent)
    }

    /// Sends what the program wrote before its end, then reports the end.
    ///
    /// Whoever holds the pipes open longer is not waited for.
    private func drainAfterEnd(_ agent: Agent) {
        guard status != nil, connection != nil else { return }
        for output in outputs where output.isOpen {
            while output.isOpen && canRelay && output.relayOnce(agent) {}
            guard canRelay else { return }
        }
        guard connection != nil else { return }
        if isTerminal && outputs.contains(where: { $0.isOpen }) {
            if drainDeadline == Int64.max { drainDeadline = sys_clock(CLOCK_MONOTONIC) + Session.terminalDrainNanoseconds }
        } else {
            finish(agent)
        }
    }

    /// A stream reached its end.
    func streamEnded(_ stream: ChildStream, _ agent: Agent) {
        agent.loop.close(stream)
        if status != nil && !outputs.contains(where: { $0.isOpen }) { finish(agent) }
    }

    /// Whether a terminal's drain time is over.
    func isDrainOverdue(_ now: Int64) -> Bool { now >= drainDeadline && canRelay }

    /// Reports the end and forgets the session.
    ///
    /// One that survives its connection stays: a checkpoint may be taken before the host does what follows from the end, and who
    /// goes on from it asks again.
    func finish(_ agent: Agent) {
        guard let status, let connection else { return }
        drainDeadline = Int64.max
        self.connection = nil
        connection.session = nil
        closeStreams(agent)
        if !survivesDisconnect { agent.remove(self) }
        connection.send(.exited, request: request, status.encoded, agent)
    }

    private func closeStreams(_ agent: Agent) {
        if let input { agent.loop.close(input) }
        for output in outputs { agent.loop.close(output) }
        input?.session = nil
        for output in outputs { output.session = nil }
    }
}

/// The agent's end of a program's standard stream: a pipe in one direction, or a terminal in both.
final class ChildStream: EventSource {
    private let outputType: MessageType?
    private var incoming = ByteQueue()
    private var inputEnded = false
    var session: Session?

    /// Owns a non-blocking descriptor; `outputType` is the frame for what is read, nil for a stream that is only written.
    init(_ descriptor: Int32, _ outputType: MessageType?) {
        self.outputType = outputType
        super.init(descriptor)
    }

    /// Input that the program has not taken yet, in bytes.
    var pendingInput: Int { incoming.count }

    /// The events to watch for.
    func interest(reading: Bool) -> UInt32 {
        (reading && outputType != nil ? Events.input : 0) | (incoming.isEmpty ? 0 : Events.output)
    }

    override func ready(_ events: UInt32, _ agent: Agent) {
        if events & (Events.output | Events.error) != 0, !incoming.isEmpty || outputType == nil { flush(agent) }
        if isOpen, outputType != nil, events & (Events.input | Events.hangUp | Events.error) != 0 {
            if session?.canRelay ?? false { _ = relayOnce(agent) } else { agent.loop.watch(self, interest(reading: false)) }
        }
    }

    /// Reads and relays one chunk; false when there is nothing to read now or any more.
    func relayOnce(_ agent: Agent) -> Bool {
        guard let outputType else { return false }
        let got = sys_read(descriptor, agent.scratch.baseAddress, agent.scratch.count)
        if got == -Int(EAGAIN) || got == -Int(EINTR) { return false }
        // EIO is how a terminal says that its last program is gone.
        guard got > 0 else {
            session?.streamEnded(self, agent)
            return false
        }
        session?.relay(outputType, UnsafeRawBufferPointer(rebasing: agent.scratch[..<got]), agent)
        return true
    }

    /// Queues input for the program.
    func write(_ bytes: [UInt8], _ agent: Agent) {
        guard isOpen, !inputEnded else {
            session?.grant(bytes.count, agent)
            return
        }
        incoming.append { $0.append(contentsOf: bytes) }
        flush(agent)
    }

    /// The client sends no more: a pipe closes once it is empty, a terminal gets its end-of-file character.
    func endInput(isTerminal: Bool, _ agent: Agent) {
        guard isOpen, !inputEnded else { return }
        if isTerminal { incoming.append { $0.append(4) } } else { inputEnded = true }
        flush(agent)
    }

    private func flush(_ agent: Agent) {
        let before = incoming.count
        var taken = incoming.flush(to: descriptor)
        if taken < 0 {
            // The program closed its input: the rest is dropped, and the client is not kept waiting for credit.
            taken = before
            incoming.removeAll()
            if outputType == nil { agent.loop.close(self) }
        }
        session?.grant(taken, agent)
        guard isOpen else { return }
        if inputEnded && incoming.isEmpty {
            agent.loop.close(self)
        } else {
            agent.loop.watch(self, interest(reading: session?.canRelay ?? false))
        }
    }
}
