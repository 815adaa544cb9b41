import CAgent

/// The socket on which the host of a function connects.
final class FunctionListener: EventSource {
    override func ready(_ events: UInt32, _ agent: Agent) {
        while true {
            let accepted = sys_accept(descriptor)
            guard accepted >= 0 else { return }
            let link = FunctionLink(Int32(truncatingIfNeeded: accepted))
            // The newest connection is the one that lives: after a restore the former one's other end is gone.
            agent.function.attach(link, agent)
            agent.loop.watch(link, Events.input)
            // What the host sent right behind its connection is there already.
            link.ready(Events.input, agent)
        }
    }
}

/// The connection to a function's host: commands in; log, answers and states out.
final class FunctionLink: EventSource {
    /// Output that may wait before the function's log and answers are held back.
    private static let outgoingBytesMax = 131_072

    private var decoder = FrameDecoder()
    private var assembler = MessageAssembler(bytesMax: FunctionLimits.messageBytesMax)
    private var outgoing = ByteQueue()
    private var greeted = false
    private var closesWhenFlushed = false
    /// A piece of an event that the runtime has no room for yet: nothing behind it is read.
    private var held: Frame?

    override func ready(_ events: UInt32, _ agent: Agent) {
        if events & Events.output != 0 { flush(agent) }
        guard isOpen, events & (Events.input | Events.hangUp | Events.error) != 0 else { return }
        if held == nil && !closesWhenFlushed { receive(agent) } else if events & (Events.hangUp | Events.error) != 0 { close(agent) }
    }

    /// Whether the runtime's output may go on.
    var hasRoom: Bool { isOpen && outgoing.count < FunctionLink.outgoingBytesMax }

    /// Queues a message; `flush` sends it.
    func queue(_ type: MessageType, _ payload: [UInt8]) {
        outgoing.append { Frame.appendMessage(type, request: 0, payload: payload, to: &$0) }
    }

    /// Queues a piece of a stream; `flush` sends it.
    func queue(_ type: MessageType, chunk: UnsafeRawBufferPointer) {
        outgoing.append {
            Frame.appendHeader(type, request: 0, hasMore: false, count: chunk.count, to: &$0)
            $0.append(contentsOf: chunk)
        }
    }

    /// Sends what is queued, as far as the socket takes it.
    func flush(_ agent: Agent) {
        guard isOpen else { return }
        let hadRoom = hasRoom
        if outgoing.flush(to: descriptor) < 0 { return close(agent) }
        if outgoing.isEmpty && closesWhenFlushed { return close(agent) }
        updateInterest(agent)
        if !hadRoom && hasRoom { agent.function.resumeOutput(agent) }
    }

    /// The runtime has room again: goes on with what was held back.
    func resumeInput(_ agent: Agent) {
        guard isOpen, let frame = held, agent.function.takesEvent else { return }
        held = nil
        agent.function.take(event: frame.payload, agent)
        handleFrames(agent)
        updateInterest(agent)
    }

    /// Ends the connection.
    func close(_ agent: Agent) {
        guard isOpen else { return }
        agent.loop.close(self)
        held = nil
        agent.function.detach(self, agent)
    }

    private func updateInterest(_ agent: Agent) {
        agent.loop.watch(self, (held != nil || closesWhenFlushed ? 0 : Events.input) | (outgoing.isEmpty ? 0 : Events.output))
    }

    private func receive(_ agent: Agent) {
        let got = sys_read(descriptor, agent.scratch.baseAddress, agent.scratch.count)
        if got == -Int(EAGAIN) { return }
        guard got > 0 else { return close(agent) }
        decoder.append(UnsafeRawBufferPointer(rebasing: agent.scratch[..<got]))
        handleFrames(agent)
        if isOpen { updateInterest(agent) }
    }

    private func handleFrames(_ agent: Agent) {
        do throws(ProtocolFault) {
            while isOpen, !closesWhenFlushed, held == nil, let frame = try decoder.next() {
                guard frame.type.isRequest else { throw ProtocolFault(.outOfOrder, at: 2) }
                if let message = try assembler.add(frame) { try handle(message, agent) }
            }
            agent.function.endOfCommands(agent)
        } catch {
            let what = "protocol fault " + Text.decimal(Int(error.kind.rawValue)) + " at byte " + Text.decimal(error.offset)
            breakOff(Failure(.protocolFault, what), agent)
        }
        flush(agent)
    }

    private func breakOff(_ failure: Failure, _ agent: Agent) {
        closesWhenFlushed = true
        queue(.failed, failure.encoded)
    }

    private func handle(_ message: Frame, _ agent: Agent) throws(ProtocolFault) {
        guard greeted else { return try greet(message, agent) }
        let function = agent.function
        var failure: Failure?
        switch message.type {
        case .functionStart: failure = function.start(try FunctionStart(payload: message.payload), agent)
        case .functionRestored: failure = function.restored(try FunctionRestored(payload: message.payload), agent)
        case .functionInvoke: try function.invoke(try FunctionInvoke(payload: message.payload), agent)
        case .functionEvent:
            guard message.payload.count <= function.eventBytesLeft else { throw ProtocolFault(.tooLong, at: 8) }
            if function.takesEvent { function.take(event: message.payload, agent) } else { held = message }
        case .functionKill: function.kill()
        case .functionMeasure: function.tellMemory()
        default: throw ProtocolFault(.outOfOrder, at: 2)
        }
        if let failure { queue(.failed, failure.encoded) }
    }

    private func greet(_ message: Frame, _ agent: Agent) throws(ProtocolFault) {
        guard message.type == .functionAttach else { throw ProtocolFault(.outOfOrder, at: 2) }
        guard try FunctionAttach(payload: message.payload).version == functionProtocolVersion else {
            let what = "agent speaks version " + Text.decimal(Int(functionProtocolVersion)) + " of the function protocol"
            return breakOff(Failure(.versionMismatch, what), agent)
        }
        greeted = true
        agent.function.greet(agent)
    }
}
