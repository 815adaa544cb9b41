public import AgentProtocol
public import Linux
internal import Synchronization

/// The host's end of the connection to a function's runtime: vsock port 1025 of its guest.
///
/// Calls block and have a time limit. One thread follows the function; any thread may `kill` and `close`. Whoever has an event
/// loop of its own uses `FunctionCommand`, `FunctionMessageReader` and `FunctionAnswerCollector` on its own socket instead.
public final class FunctionChannel: Sendable {
    /// The limit of a request to the agent itself.
    public static let agentTimeout = Duration.seconds(10)

    private struct Incoming {
        var reader = FunctionMessageReader()
        var collector: FunctionAnswerCollector
        var phase = FunctionPhase.idle
    }
    private let connection: AgentConnection
    private let incoming: Mutex<Incoming>

    /// Takes a connected stream socket, and sends nothing yet.
    ///
    /// - Throws: `AgentError.system`.
    public init(adopting socket: consuming OwnedDescriptor, logBytesMax: Int = 65_536) throws(AgentError) {
        connection = try AgentConnection(adopting: socket)
        incoming = Mutex(Incoming(collector: FunctionAnswerCollector(logBytesMax: logBytesMax)))
    }

    deinit { connection.shutdown() }

    /// The socket's number: readable when `nextAvailable` may have something.
    public var pollDescriptor: Int32 { connection.rawValue }

    /// Where the runtime stood when it was heard of last.
    public var phase: FunctionPhase { incoming.withLock { $0.phase } }

    /// The most bytes of memory that the runtime and all it started have had, as told last; nil: it was not.
    public var memoryPeakBytes: Int? { incoming.withLock { $0.collector.memoryPeakBytes } }

    /// Ends the connection; whoever waits on it gets `.disconnected`.
    public func close() { connection.shutdown() }

    /// Sends commands in one go.
    ///
    /// - Throws: `AgentError`.
    public func send(_ commands: [FunctionCommand], timeout: Duration = FunctionChannel.agentTimeout) throws(AgentError) {
        var bytes: [UInt8] = []
        for command in commands { command.append(to: &bytes) }
        try connection.send(bytes: bytes, Deadline(after: timeout), "reach the function's runtime")
    }

    /// The next message; nil waits without limit.
    ///
    /// - Throws: `AgentError`.
    public func next(timeout: Duration? = nil) throws(AgentError) -> FunctionMessage {
        try receive(Deadline(after: timeout)).message
    }

    /// The next message if it has arrived, else nil.
    ///
    /// - Throws: `AgentError`.
    public func nextAvailable() throws(AgentError) -> FunctionMessage? {
        guard let frame = try connection.receiveAvailable(FunctionChannel.following) else { return nil }
        return try take(frame).message
    }

    /// Greets the agent and asks where the runtime stands.
    ///
    /// - Throws: `FunctionError.agent`.
    public func attach(timeout: Duration = FunctionChannel.agentTimeout) throws(FunctionError) -> FunctionPhase {
        try command([.attach], timeout)
        return try wait(timeout) { message, _ in
            guard case .state(let phase) = message else { return nil }
            return phase
        }
    }

    /// Starts the runtime; returns once its process runs.
    ///
    /// - Throws: `FunctionError.agent`; `.refused` with `.commandNotFound` or `.notExecutable` when it cannot be run.
    public func start(_ request: FunctionStart, timeout: Duration = FunctionChannel.agentTimeout) throws(FunctionError) {
        try command([.start(request)], timeout)
        // Of a runtime before this one, the host may have been told only now that it ended.
        try wait(timeout, ignoresEnd: true) { message, _ -> Void? in
            guard case .state = message else { return nil }
            return ()
        }
    }

    /// Waits until the runtime stands at `restore/next` or at `invocation/next`, or is warm; returns where, and what it wrote.
    ///
    /// - Throws: `FunctionError`; `.runtime` with the runtime's own words when its initialization failed.
    public func waitUntilReady(timeout: Duration) throws(FunctionError) -> (phase: FunctionPhase, log: [UInt8]) {
        let known = incoming.withLock { $0.phase }
        let restPoints: [FunctionPhase] = [.restoreNext, .invocationNext, .warm]
        var ready = restPoints.contains(known) ? known : nil
        if ready == nil {
            ready = try wait(timeout) { message, outcome throws(FunctionError) -> FunctionPhase? in
                if let outcome { throw .runtime(outcome) }
                guard case .state(let phase) = message, restPoints.contains(phase) else { return nil }
                return phase
            }
        }
        return (ready ?? known, incoming.withLock { $0.collector.takeLog() })
    }

    /// Answers `restore/next` and waits until the runtime stands at `invocation/next`.
    ///
    /// - Throws: `FunctionError`; `.runtime` when a hook failed.
    public func restore(_ request: FunctionRestored, timeout: Duration) throws(FunctionError) {
        try command([.restored(request)], timeout)
        try wait(timeout) { message, outcome throws(FunctionError) -> Void? in
            if let outcome { throw .runtime(outcome) }
            return message == .state(.invocationNext) ? () : nil
        }
    }

    /// Serves one request.
    ///
    /// - Parameters:
    ///   - first: what goes ahead in the same write: `attach` and `restored` after a restore.
    ///   - timeout: from now to the end of the answer.
    /// - Throws: `FunctionError`; the function is not usable any more. An error of the function itself is an outcome.
    public func invoke(
        _ request: FunctionInvoke, payload: [UInt8], first: [FunctionCommand] = [], timeout: Duration
    ) throws(FunctionError) -> FunctionOutcome {
        try command(first + [.invoke(request, payload)], timeout)
        return try wait(timeout) { _, outcome throws(FunctionError) -> FunctionOutcome? in
            guard let outcome else { return nil }
            switch outcome.answer.kind {
            case .initializationError, .restoreError: throw .runtime(outcome)
            case .response, .error:
                // An answer to a request that was given up: a late one.
                return outcome.answer.requestIdentifier == request.requestIdentifier ? outcome : nil
            }
        }
    }

    /// Kills the runtime and all that it started.
    ///
    /// - Throws: `AgentError`.
    public func kill() throws(AgentError) { try send([.kill]) }
}

extension FunctionChannel {
    private static let following = "follow the function's runtime"

    private func command(_ commands: [FunctionCommand], _ timeout: Duration) throws(FunctionError) {
        do throws(AgentError) { try send(commands, timeout: timeout) } catch { throw .agent(error) }
    }

    /// Takes messages until `decide` returns something.
    private func wait<Value>(
        _ timeout: Duration, ignoresEnd: Bool = false, _ decide: (FunctionMessage, FunctionOutcome?) throws(FunctionError) -> Value?
    ) throws(FunctionError) -> Value {
        let deadline = Deadline(after: timeout)
        while true {
            let (message, outcome) = try receiveOrExplain(deadline)
            if let value = try decide(message, outcome) { return value }
            switch message {
            case .exited where ignoresEnd: break
            case .exited(let status): throw .exited(status, log: incoming.withLock { $0.collector.takeLog() })
            case .failed(let failure): throw .agent(.refused(failure))
            case .state, .log, .answer, .body, .end, .memory: break
            }
        }
    }

    private func receiveOrExplain(_ deadline: Deadline) throws(FunctionError) -> (FunctionMessage, FunctionOutcome?) {
        do throws(AgentError) {
            let (message, outcome) = try receive(deadline)
            return (message, outcome)
        } catch {
            guard case .timedOut = error else { throw .agent(error) }
            throw .timedOut(log: incoming.withLock { $0.collector.takeLog() })
        }
    }

    private func receive(_ deadline: Deadline) throws(AgentError) -> (message: FunctionMessage, outcome: FunctionOutcome?) {
        try take(try connection.receive(deadline, FunctionChannel.following))
    }

    private func take(_ frame: Frame) throws(AgentError) -> (message: FunctionMessage, outcome: FunctionOutcome?) {
        let result = incoming.withLock { state -> Result<(FunctionMessage, FunctionOutcome?), ProtocolFault> in
            do throws(ProtocolFault) {
                let message = try state.reader.read(frame)
                if case .state(let phase) = message { state.phase = phase }
                if case .exited = message { state.phase = .ended }
                return .success((message, state.collector.add(message)))
            } catch {
                return .failure(error)
            }
        }
        switch result {
        case .success(let taken): return taken
        case .failure(let fault): throw .fault(fault)
        }
    }
}
