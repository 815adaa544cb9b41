public import AgentProtocol
public import Linux

/// The host's side of one connection to a guest's agent.
///
/// Calls block and have a time limit. One request at a time: the agent answers in order, and a call made while another
/// waits would take its answer, so callers that need several at once open several connections.
public final class AgentClient: Sendable {
    /// The limit of a request unless a call says otherwise.
    public static let defaultTimeout = Duration.seconds(10)

    /// What the agent said of itself.
    public let welcome: Welcome
    private let connection: AgentConnection

    /// Takes a connected stream socket and greets the agent.
    ///
    /// - Throws: `AgentError`, among them `.fault` when the other side is no agent of this version.
    public init(adopting socket: consuming OwnedDescriptor, timeout: Duration = AgentClient.defaultTimeout) throws(AgentError) {
        let connection = try AgentConnection(adopting: socket)
        self.connection = connection
        let answer = try AgentClient.ask(connection, .hello, Hello().encoded, .welcome, timeout, "greet the guest's agent")
        welcome = try AgentClient.decode(answer)
        guard welcome.version == agentProtocolVersion else { throw .fault(ProtocolFault(.versionMismatch)) }
    }

    /// Ends the connection; whoever waits on it gets `.disconnected`.
    public func close() { connection.shutdown() }

    /// Asks for a sign of life.
    ///
    /// - Throws: `AgentError`.
    public func ping(timeout: Duration = AgentClient.defaultTimeout) throws(AgentError) {
        try order(.ping, [], timeout, "reach the guest's agent")
    }

    /// Sets host name, network, resolver, host entries and clock.
    ///
    /// - Throws: `AgentError`; `.refused` names the step that failed.
    public func configure(_ request: ConfigureRequest, timeout: Duration = AgentClient.defaultTimeout) throws(AgentError) {
        try order(.configure, request.encoded, timeout, "configure the guest")
    }

    /// Mounts a file system in the guest.
    ///
    /// - Throws: `AgentError`.
    public func mount(_ request: MountRequest, timeout: Duration = AgentClient.defaultTimeout) throws(AgentError) {
        try order(.mount, request.encoded, timeout, "mount \(request.device) in the guest")
    }

    /// Sets the guest's wall clock, in nanoseconds since 1970.
    ///
    /// - Throws: `AgentError`.
    public func setClock(nanoseconds: UInt64, timeout: Duration = AgentClient.defaultTimeout) throws(AgentError) {
        try order(.setClock, ClockRequest(wallClockNanoseconds: nanoseconds).encoded, timeout, "set the guest's clock")
    }

    /// Mixes random bytes (at most `ReseedRequest.entropyBytesMax`) into the guest's generator and reseeds it.
    ///
    /// - Throws: `AgentError`.
    public func reseed(entropy: [UInt8], timeout: Duration = AgentClient.defaultTimeout) throws(AgentError) {
        try order(.reseed, ReseedRequest(entropy: entropy).encoded, timeout, "reseed the guest's random numbers")
    }

    /// Writes all dirty data of the guest's file systems to its disks.
    ///
    /// - Throws: `AgentError`.
    public func sync(timeout: Duration = .seconds(60)) throws(AgentError) {
        try order(.sync, [], timeout, "sync the guest's disks")
    }

    /// Starts the guest's shutdown; returns once the agent has begun, the machine stops later.
    ///
    /// - Throws: `AgentError`.
    public func shutdown(_ request: ShutdownRequest, timeout: Duration = AgentClient.defaultTimeout) throws(AgentError) {
        try order(.shutdown, request.encoded, timeout, "shut the guest down")
    }

    /// Asks for a report on the guest's processes and POSIX objects.
    ///
    /// - Throws: `AgentError`.
    public func objects(
        _ sections: UInt32 = ObjectsRequest.everything, timeout: Duration = AgentClient.defaultTimeout
    ) throws(AgentError) -> ObjectReport {
        let payload = ObjectsRequest(sections: sections).encoded
        return try AgentClient.decode(
            try AgentClient.ask(connection, .objects, payload, .objectReport, timeout, "list the guest's objects"))
    }

    /// Sends a signal to a session by its number.
    ///
    /// - Throws: `AgentError`; `.refused` with `.noSession` when it ended.
    public func signal(_ request: SignalRequest, timeout: Duration = AgentClient.defaultTimeout) throws(AgentError) {
        try order(.signal, request.encoded, timeout, "send signal \(request.signal)")
    }

    /// Starts a program.
    ///
    /// The connection belongs to the session from then on; this client must not be used again.
    ///
    /// - Throws: `AgentError`; `.refused` with `.commandNotFound` or `.notExecutable` when the program cannot be run.
    public func start(_ request: StartRequest, timeout: Duration = AgentClient.defaultTimeout) throws(AgentError) -> ExecSession {
        let name = request.arguments.first?.string ?? ""
        let number = connection.makeRequestNumber()
        let answer = try AgentClient.ask(connection, .start, request.encoded, .started, timeout, "run \(name)", number: number)
        let session: SessionNumber = try AgentClient.decode(answer)
        return ExecSession(connection, request: number, session.processNumber, credit: AgentLimits.stdinWindowBytes)
    }

    /// Takes over a session that survives its client.
    ///
    /// The connection belongs to the session from then on.
    ///
    /// - Throws: `AgentError`; `.refused` with `.noSession` when there is none of this number.
    public func attach(
        session: Int32, receivedBytes: UInt64? = nil, timeout: Duration = AgentClient.defaultTimeout
    ) throws(AgentError) -> ExecSession {
        let number = connection.makeRequestNumber()
        let answer = try AgentClient.ask(
            connection, .attach, AttachRequest(session, receivedBytes: receivedBytes).encoded, .started, timeout,
            "attach to session \(session)", number: number)
        let confirmed: SessionNumber = try AgentClient.decode(answer)
        // The agent grants what its queue has room for; nothing may be sent before.
        return ExecSession(connection, request: number, confirmed.processNumber, credit: 0)
    }

    /// Connects to a TCP port on the guest's loopback and returns the raw stream.
    ///
    /// This client must not be used again.
    ///
    /// - Throws: `AgentError`; `.refused` when nothing listens there.
    public func proxy(port: UInt16, timeout: Duration = AgentClient.defaultTimeout) throws(AgentError) -> OwnedDescriptor {
        _ = try AgentClient.ask(
            connection, .proxy, ProxyRequest(port: port).encoded, .done, timeout, "connect to port \(port) of the guest", exact: true)
        return try connection.duplicateSocket()
    }

    private func order(_ type: MessageType, _ payload: [UInt8], _ timeout: Duration, _ what: String) throws(AgentError) {
        let answer = try AgentClient.ask(connection, type, payload, .done, timeout, what)
        guard answer.isEmpty else { throw .fault(ProtocolFault(.trailingBytes)) }
    }

    /// Sends a request and waits for its answer's payload.
    static func ask(
        _ connection: AgentConnection, _ type: MessageType, _ payload: [UInt8], _ expected: MessageType, _ timeout: Duration,
        _ what: String, number: UInt32? = nil, exact: Bool = false
    ) throws(AgentError) -> [UInt8] {
        let deadline = Deadline(after: timeout)
        let number = number ?? connection.makeRequestNumber()
        try connection.send(type, request: number, payload: payload, deadline, what)
        let answer = try connection.receive(deadline, what, exact: exact)
        // A broken-off connection says why with request number 0.
        if answer.type == .failed, answer.request == number || answer.request == 0 { throw .refused(try decode(answer.payload)) }
        guard answer.request == number, answer.type == expected else { throw .fault(ProtocolFault(.outOfOrder, at: 2)) }
        return answer.payload
    }

    /// Decodes a payload, with the client's error.
    static func decode<Body: MessageBody>(_ payload: [UInt8]) throws(AgentError) -> Body {
        do throws(ProtocolFault) { return try Body(payload: payload) } catch { throw .fault(error) }
    }
}
