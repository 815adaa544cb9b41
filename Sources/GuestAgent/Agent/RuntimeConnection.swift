import CAgent

/// The socket on which the runtime connects to its API.
final class RuntimeListener: EventSource {
    /// A runtime has a connection or two; whoever opens more without end is left waiting.
    private static let connectionsMax = 64

    override func ready(_ events: UInt32, _ agent: Agent) {
        while true {
            let accepted = sys_accept(descriptor)
            guard accepted >= 0 else { return }
            let connection = RuntimeConnection(Int32(truncatingIfNeeded: accepted))
            guard agent.function.connections.count < RuntimeListener.connectionsMax else { continue }
            sys_set_nodelay(connection.descriptor)
            agent.function.add(connection)
            agent.loop.watch(connection, Events.input)
            // Its request is there already as a rule.
            connection.ready(Events.input, agent)
        }
    }
}

/// One connection of the runtime to the Lambda runtime API: requests in, answers out, one after the other.
final class RuntimeConnection: EventSource {
    private static let outgoingBytesMax = 131_072
    /// What is read and dropped of an answer that is too long, so that the runtime hears why; more ends the connection.
    private static let droppedBytesMax = 67_108_864

    private enum State {
        /// The next request, or the body of this one, is read.
        case reading
        /// The answer is not there yet: `next` waits.
        case waiting
    }
    private var parser = RuntimeRequestParser()
    private var outgoing = ByteQueue()
    private var state = State.reading
    /// What came behind a request that is not answered yet.
    private var early: [UInt8] = []
    private var request = RuntimeRequest()
    /// The answer that the body of this request is; nil when it is dropped.
    private var answer: FunctionAnswer?
    private var bodyBytes = 0
    private var refusal: (status: Int, type: Text, message: Text)?
    private var closesWhenFlushed = false

    override func ready(_ events: UInt32, _ agent: Agent) {
        if events & Events.output != 0 { flush(agent) }
        guard isOpen, events & (Events.input | Events.hangUp | Events.error) != 0 else { return }
        if readsNow(agent) { receive(agent) } else if events & (Events.hangUp | Events.error) != 0 { close(agent) }
    }

    /// Whether more of an event may be queued.
    var hasRoom: Bool { outgoing.count < RuntimeConnection.outgoingBytesMax }

    /// Queues bytes for the runtime; `flush` sends them.
    func queue(_ bytes: [UInt8]) { outgoing.append { $0.append(contentsOf: bytes) } }

    /// Sends what is queued, as far as the socket takes it.
    func flush(_ agent: Agent) {
        guard isOpen else { return }
        let hadRoom = hasRoom
        if outgoing.flush(to: descriptor) < 0 { return close(agent) }
        if outgoing.isEmpty && closesWhenFlushed { return close(agent) }
        updateInterest(agent)
        if !hadRoom && hasRoom { agent.function.receiverHasRoom(agent) }
    }

    /// Answers the request that waits, or the one just read.
    func answer(_ status: Int, _ body: [UInt8], _ agent: Agent) {
        outgoing.append { RuntimeAnswers.append(status, body, keepsAlive: request.keepsAlive, to: &$0) }
        endAnswer(agent)
    }

    /// Answers with an error as the runtime API tells it.
    func refuse(_ status: Int, _ type: Text, _ message: Text, _ agent: Agent) {
        answer(status, RuntimeAnswers.error(type, message), agent)
    }

    /// All of the answer is queued: the next request may come.
    func endAnswer(_ agent: Agent) {
        closesWhenFlushed = closesWhenFlushed || !request.keepsAlive
        state = .reading
        flush(agent)
        resumeInput(agent)
    }

    /// Goes on with what came early, and reads again.
    func resumeInput(_ agent: Agent) {
        guard isOpen, readsNow(agent) else { return }
        if !early.isEmpty {
            let bytes = early
            early = []
            bytes.withUnsafeBytes { take($0, agent) }
        }
        if isOpen { updateInterest(agent) }
    }

    /// Ends the connection.
    func close(_ agent: Agent) {
        guard isOpen else { return }
        agent.loop.close(self)
        if let answer {
            self.answer = nil
            agent.function.end(answer, .broken, agent)
        }
        agent.function.remove(self, agent)
    }

    private func readsNow(_ agent: Agent) -> Bool {
        state == .reading && !closesWhenFlushed && hasRoom && (answer == nil || agent.function.takesAnswer)
    }

    private func updateInterest(_ agent: Agent) {
        // While `next` waits, a client may have closed its sending half, and still wants its answer: only a reset is looked for.
        agent.loop.watch(self, (readsNow(agent) ? Events.input : Events.hangUp) | (outgoing.isEmpty ? 0 : Events.output))
    }

    private func receive(_ agent: Agent) {
        let got = sys_read(descriptor, agent.scratch.baseAddress, agent.scratch.count)
        if got == -Int(EAGAIN) { return }
        guard got > 0 else { return close(agent) }
        take(UnsafeRawBufferPointer(rebasing: agent.scratch[..<got]), agent)
        // A long answer is sent on as it comes, a short one in one piece with its end.
        if answer != nil { agent.function.flushAnswer(agent) }
        if isOpen { updateInterest(agent) }
    }

    private func take(_ chunk: UnsafeRawBufferPointer, _ agent: Agent) {
        let input = chunk.assumingMemoryBound(to: UInt8.self)
        var position = 0
        do throws(RuntimeRequestFault) {
            while isOpen && !closesWhenFlushed {
                switch try parser.next(input.span, &position) {
                case .needsMore: return
                case .head(let head): begin(head, agent)
                case .body(let range): takeBody(UnsafeRawBufferPointer(rebasing: chunk[range]), agent)
                case .end(let errorType):
                    // The buffer is used again before this returns.
                    early = [UInt8](chunk[position...])
                    end(errorType, agent)
                    // `endAnswer` went on with what came early, or it waits for the answer.
                    return
                }
            }
        } catch {
            request.keepsAlive = false
            refuse(error.status, "InvalidRequest", "the request cannot be understood", agent)
        }
    }

    private func begin(_ head: RuntimeRequest, _ agent: Agent) {
        request = head
        bodyBytes = 0
        refusal = nil
        let function = agent.function
        switch head.target {
        case .response(let identifier), .error(let identifier):
            guard function.expects(answerTo: identifier) else {
                refusal = (400, "InvalidRequestID", "no such request is being worked on")
                break
            }
            let kind: FunctionAnswer.Kind = if case .response = head.target { .response } else { .error }
            beginAnswer(kind, identifier, agent)
        case .initializationError: beginAnswer(.initializationError, Text(), agent)
        case .restoreError: beginAnswer(.restoreError, Text(), agent)
        case .unknown: refusal = (404, "NotFound", "the runtime API has no such path or method")
        case .invocationNext, .restoreNext, .start: break
        }
        if head.expectsContinue {
            outgoing.append { RuntimeAnswers.appendContinue(to: &$0) }
            flush(agent)
        }
    }

    private func beginAnswer(_ kind: FunctionAnswer.Kind, _ identifier: Text, _ agent: Agent) {
        let begun = FunctionAnswer(
            kind, requestIdentifier: identifier, contentType: request.contentType, errorType: request.errorType)
        answer = begun
        agent.function.begin(begun)
    }

    private func takeBody(_ chunk: UnsafeRawBufferPointer, _ agent: Agent) {
        bodyBytes += chunk.count
        if bodyBytes > RuntimeConnection.droppedBytesMax { return endTooLong(agent) }
        // What exceeds the limit is read and dropped.
        if answer != nil, bodyBytes <= FunctionLimits.payloadBytesMax { agent.function.add(chunk) }
    }

    private func endTooLong(_ agent: Agent) {
        if let answer {
            self.answer = nil
            agent.function.end(answer, .tooLarge, agent)
        }
        request.keepsAlive = false
        refuse(413, "RequestEntityTooLarge", "the body has no end", agent)
    }

    private func end(_ trailerErrorType: Text, _ agent: Agent) {
        switch request.target {
        case .invocationNext: wait(for: .invocationNext, agent)
        case .restoreNext: wait(for: .restoreNext, agent)
        case .start: wait(for: .warm, agent)
        default:
            if let refusal { return refuse(refusal.status, refusal.type, refusal.message, agent) }
            guard let whole = answer else { return refuse(500, "InvalidState", "no answer was begun", agent) }
            answer = nil
            let tooLarge = bodyBytes > FunctionLimits.payloadBytesMax
            // A stream that failed half-way says so behind its end.
            let outcome: FunctionEnd.Outcome = tooLarge ? .tooLarge : trailerErrorType.isEmpty ? .complete : .broken
            agent.function.end(whole, outcome, agent)
            if tooLarge {
                refuse(413, "RequestEntityTooLarge", "Exceeded maximum allowed payload size (6291556 bytes).", agent)
            } else {
                answer(202, RuntimeAnswers.accepted, agent)
            }
        }
    }

    private func wait(for next: FunctionPhase, _ agent: Agent) {
        state = .waiting
        agent.function.wait(self, for: next, agent)
        if isOpen { updateInterest(agent) }
    }
}
