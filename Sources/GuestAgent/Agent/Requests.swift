import CAgent

/// What each request does.
extension Connection {
    /// Serves one request of a greeted client.
    ///
    /// - Throws: `ProtocolFault` when the request is malformed; the connection is then broken off.
    func serve(_ message: Frame, _ agent: Agent) throws(ProtocolFault) {
        switch message.type {
        case .start, .attach, .stdin, .stdinEnd, .resize, .signal: try serveSession(message, agent)
        case .hello: throw ProtocolFault(.outOfOrder, at: 2)
        case .objects: try serveObjects(message, agent)
        case .proxy: try ProxyTarget.open(try ProxyRequest(payload: message.payload), message.request, self, agent)
        default: try serveSystem(message, agent)
        }
    }

    private func serveSystem(_ message: Frame, _ agent: Agent) throws(ProtocolFault) {
        var failure: Failure?
        switch message.type {
        case .configure: failure = SystemServices.configure(try ConfigureRequest(payload: message.payload), agent)
        case .mount: failure = SystemServices.mount(try MountRequest(payload: message.payload))
        case .setClock: failure = SystemServices.setClock(try ClockRequest(payload: message.payload).wallClockNanoseconds)
        case .reseed: failure = SystemServices.reseed(try ReseedRequest(payload: message.payload))
        case .sync: sys_sync()
        case .shutdown: agent.beginShutdown(try ShutdownRequest(payload: message.payload))
        default: break  // ping
        }
        if let failure { fail(message.request, failure, agent) } else { send(.done, request: message.request, [], agent) }
    }

    private func serveSession(_ message: Frame, _ agent: Agent) throws(ProtocolFault) {
        switch message.type {
        case .start:
            let request = try StartRequest(payload: message.payload)
            guard session == nil else { throw ProtocolFault(.outOfOrder, at: 2) }
            Spawner.start(request, message.request, self, agent)
        case .attach:
            let request = try AttachRequest(payload: message.payload)
            let number = request.processNumber
            guard session == nil else { throw ProtocolFault(.outOfOrder, at: 2) }
            guard let wanted = agent.session(number) else {
                return fail(message.request, Failure(.noSession, "session " + Text.decimal(Int(number))), agent)
            }
            wanted.attach(self, message.request, receivedBytes: request.receivedBytes, agent)
        case .signal:
            try serveSignal(message, agent)
        default:
            // Input may still be on its way when a session ends; it is dropped.
            guard let session else { return }
            try session.receive(message, agent)
        }
    }

    private func serveSignal(_ message: Frame, _ agent: Agent) throws(ProtocolFault) {
        let request = try SignalRequest(payload: message.payload)
        let wanted = request.session == 0 ? session : agent.session(request.session)
        guard let wanted, wanted.status == nil else {
            return fail(message.request, Failure(.noSession, "session " + Text.decimal(Int(request.session))), agent)
        }
        let result = sys_kill(request.wholeGroup ? -wanted.processNumber : wanted.processNumber, request.signal)
        if result < 0 {
            fail(message.request, Failure(.system, errno: Int32(truncatingIfNeeded: -result), "signal"), agent)
        } else {
            send(.done, request: message.request, [], agent)
        }
    }

    private func serveObjects(_ message: Frame, _ agent: Agent) throws(ProtocolFault) {
        let request = try ObjectsRequest(payload: message.payload)
        if request.sections & ObjectsRequest.descriptors != 0 { Boot.loadSocketDiagnostics(agent) }
        let report = ObjectCollector.collect(request).encoded
        guard report.count <= AgentLimits.replyBytesMax else {
            return fail(message.request, Failure(.limit, "the object report is too long"), agent)
        }
        send(.objectReport, request: message.request, report, agent)
    }
}
