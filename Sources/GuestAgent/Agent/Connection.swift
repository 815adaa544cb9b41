import CAgent

/// One client connection: frames in, frames out, and at most one session or one proxied stream.
final class Connection: EventSource {
    /// Output that may wait before the connection's producers are paused.
    static let outgoingBytesMax = 131_072

    private var decoder = FrameDecoder()
    private var assembler = MessageAssembler(bytesMax: AgentLimits.requestBytesMax)
    private var outgoing = ByteQueue()
    private var greeted = false
    private var readPaused = false
    private var readEnded = false
    private var closesWhenFlushed = false
    private var writeEnded = false
    var session: Session?
    private var proxy: ProxyTarget?

    override func ready(_ events: UInt32, _ agent: Agent) {
        if events & Events.output != 0 { flush(agent) }
        if isOpen && events & (Events.input | Events.hangUp | Events.error) != 0 {
            // An error with reading paused could never be noticed otherwise.
            if readPaused || readEnded { if events & (Events.hangUp | Events.error) != 0 { close(agent) } } else { receive(agent) }
        }
    }

    /// Whether producers may go on.
    var hasRoom: Bool { isOpen && outgoing.count < Connection.outgoingBytesMax }

    /// Queues an answer or event and sends what the socket takes.
    func send(_ type: MessageType, request: UInt32, _ payload: [UInt8], _ agent: Agent) {
        guard isOpen else { return }
        outgoing.append { Frame.appendMessage(type, request: request, payload: payload, to: &$0) }
        flush(agent)
    }

    /// Queues a chunk of a stream as one frame.
    func send(_ type: MessageType, request: UInt32, chunk: UnsafeRawBufferPointer, _ agent: Agent) {
        guard isOpen else { return }
        outgoing.append {
            Frame.appendHeader(type, request: request, hasMore: false, count: chunk.count, to: &$0)
            $0.append(contentsOf: chunk)
        }
        flush(agent)
    }

    /// Queues raw bytes of a proxied stream.
    func send(raw chunk: UnsafeRawBufferPointer, _ agent: Agent) {
        outgoing.append { $0.append(contentsOf: chunk) }
        flush(agent)
    }

    /// Answers that a request failed.
    func fail(_ request: UInt32, _ failure: Failure, _ agent: Agent) {
        send(.failed, request: request, failure.encoded, agent)
    }

    /// No more output will come; the write side ends once all is sent.
    func endOutput(_ agent: Agent) {
        writeEnded = true
        flush(agent)
    }

    /// Sends what is queued, then closes.
    func closeAfterFlush(_ agent: Agent) {
        closesWhenFlushed = true
        flush(agent)
    }

    /// Stops or resumes reading from the client.
    func pauseReading(_ paused: Bool, _ agent: Agent) {
        readPaused = paused
        updateInterest(agent)
    }

    /// Ends the connection and what depends on it.
    func close(_ agent: Agent) {
        guard isOpen else { return }
        agent.loop.close(self)
        agent.connectionCount -= 1
        let lost = session
        session = nil
        lost?.connectionLost(agent)
        let target = proxy
        proxy = nil
        target?.close(agent)
    }

    private func flush(_ agent: Agent) {
        guard isOpen else { return }
        let hadRoom = hasRoom
        if outgoing.flush(to: descriptor) < 0 { return close(agent) }
        if outgoing.isEmpty {
            if closesWhenFlushed { return close(agent) }
            if writeEnded { _ = sys_shutdown_write(descriptor) }
        }
        updateInterest(agent)
        if !hadRoom && hasRoom {
            session?.resumeOutput(agent)
            proxy?.updateInterest(agent)
        }
    }

    private func updateInterest(_ agent: Agent) {
        let input = readPaused || readEnded || closesWhenFlushed ? 0 : Events.input
        agent.loop.watch(self, input | (outgoing.isEmpty ? 0 : Events.output))
    }

    private func receive(_ agent: Agent) {
        let got = sys_read(descriptor, agent.scratch.baseAddress, agent.scratch.count)
        if got == -Int(EAGAIN) { return }
        guard got > 0 else { return inputEnded(got, agent) }
        let chunk = UnsafeRawBufferPointer(rebasing: agent.scratch[..<got])
        if let proxy { return proxy.send(chunk, agent) }
        decoder.append(chunk)
        handleFrames(agent)
    }

    private func inputEnded(_ result: Int, _ agent: Agent) {
        // A proxied stream may still flow the other way after its end of input.
        guard result == 0, let proxy else { return close(agent) }
        readEnded = true
        updateInterest(agent)
        proxy.endInput(agent)
    }

    private func handleFrames(_ agent: Agent) {
        do throws(ProtocolFault) {
            while isOpen, !closesWhenFlushed, proxy == nil, let frame = try decoder.next() {
                guard frame.type.isRequest else { throw ProtocolFault(.outOfOrder, at: 2) }
                if let message = try assembler.add(frame) { try handle(message, agent) }
            }
        } catch {
            breakOff(error, agent)
        }
    }

    /// The client broke the protocol: say how, then close.
    private func breakOff(_ fault: ProtocolFault, _ agent: Agent) {
        let failure = Failure(
            .protocolFault, "protocol fault " + Text.decimal(Int(fault.kind.rawValue)) + " at byte " + Text.decimal(fault.offset))
        closesWhenFlushed = true
        fail(0, failure, agent)
    }

    private func handle(_ message: Frame, _ agent: Agent) throws(ProtocolFault) {
        if greeted { return try serve(message, agent) }
        guard message.type == .hello else { throw ProtocolFault(.outOfOrder, at: 2) }
        let hello = try Hello(payload: message.payload)
        guard hello.oldestVersion <= agentProtocolVersion, agentProtocolVersion <= hello.newestVersion else {
            closesWhenFlushed = true
            let failure = Failure(.versionMismatch, "agent speaks version " + Text.decimal(Int(agentProtocolVersion)))
            return fail(message.request, failure, agent)
        }
        greeted = true
        send(.welcome, request: message.request, SystemServices.welcome(agent).encoded, agent)
    }

    /// Turns the connection into a raw stream to `target`; bytes that came early go ahead of the rest.
    func become(proxyFor target: ProxyTarget, _ agent: Agent) {
        proxy = target
        let early = decoder.takeRest()
        if !early.isEmpty { early.withUnsafeBytes { target.send($0, agent) } }
    }
}
