import CAgent

/// A TCP connection to a port on the guest's loopback, joined to a client's connection.
final class ProxyTarget: EventSource {
    private static let outgoingBytesMax = 131_072

    private var connection: Connection?
    private let request: UInt32
    private var connected = false
    private var outgoing = ByteQueue()
    private var inputEnded = false
    private var outputEnded = false

    private init(_ descriptor: Int32, _ request: UInt32, _ connection: Connection) {
        self.request = request
        self.connection = connection
        super.init(descriptor)
    }

    /// Starts to connect; the client gets `done` or `failed` when that is decided.
    static func open(_ wanted: ProxyRequest, _ request: UInt32, _ connection: Connection, _ agent: Agent) throws(ProtocolFault) {
        guard connection.session == nil else { throw ProtocolFault(.outOfOrder, at: 2) }
        let opened = sys_connect_loopback(wanted.port)
        guard opened >= 0 else {
            return connection.fail(request, Failure(.system, errno: Int32(truncatingIfNeeded: -opened), "connect to port"), agent)
        }
        let target = ProxyTarget(Int32(truncatingIfNeeded: opened), request, connection)
        connection.become(proxyFor: target, agent)
        agent.loop.watch(target, Events.output)
    }

    override func ready(_ events: UInt32, _ agent: Agent) {
        guard connected else { return finishConnecting(agent) }
        if events & Events.output != 0 { flush(agent) }
        if isOpen && events & (Events.input | Events.hangUp | Events.error) != 0 { receive(agent) }
    }

    /// Bytes from the client.
    func send(_ chunk: UnsafeRawBufferPointer, _ agent: Agent) {
        outgoing.append { $0.append(contentsOf: chunk) }
        if connected { flush(agent) }
        if outgoing.count >= ProxyTarget.outgoingBytesMax { connection?.pauseReading(true, agent) }
    }

    /// The client sends no more.
    func endInput(_ agent: Agent) {
        inputEnded = true
        if connected { flush(agent) }
    }

    /// Ends both directions.
    func close(_ agent: Agent) {
        agent.loop.close(self)
        let client = connection
        connection = nil
        client?.close(agent)
    }

    /// Watches for what can be handled now.
    func updateInterest(_ agent: Agent) {
        guard connected else { return }
        let reading = !outputEnded && (connection?.hasRoom ?? false)
        agent.loop.watch(self, (reading ? Events.input : 0) | (outgoing.isEmpty ? 0 : Events.output))
    }

    private func finishConnecting(_ agent: Agent) {
        let error = sys_socket_error(descriptor)
        guard error == 0 else {
            connection?.fail(request, Failure(.system, errno: error, "connect to port"), agent)
            return close(agent)
        }
        connected = true
        connection?.send(.done, request: request, [], agent)
        flush(agent)
    }

    private func flush(_ agent: Agent) {
        guard isOpen else { return }
        if outgoing.flush(to: descriptor) < 0 { return close(agent) }
        if outgoing.isEmpty {
            if inputEnded {
                _ = sys_shutdown_write(descriptor)
                if outputEnded { return close(agent) }
            } else {
                connection?.pauseReading(false, agent)
            }
        }
        updateInterest(agent)
    }

    private func receive(_ agent: Agent) {
        let got = sys_read(descriptor, agent.scratch.baseAddress, agent.scratch.count)
        if got == -Int(EAGAIN) { return }
        guard got > 0 else {
            outputEnded = true
            if got < 0 || (inputEnded && outgoing.isEmpty) { return connection?.closeAfterFlush(agent) ?? close(agent) }
            connection?.endOutput(agent)
            return updateInterest(agent)
        }
        connection?.send(raw: UnsafeRawBufferPointer(rebasing: agent.scratch[..<got]), agent)
        updateInterest(agent)
    }
}
