internal import FoundationEssentials
internal import Logging
internal import NIOHTTP1

extension Gateway {
    /// `Invoke`.
    func invoke(_ text: String, _ request: GatewayRequest, _ identifier: String) async throws(LambdaError) -> GatewayResponse {
        var record = try self.record(text, request)
        let kind = request.header("x-amz-invocation-type") ?? "RequestResponse"
        let logType = request.header("x-amz-log-type") ?? "None"
        guard ["None", "Tail"].contains(logType) else { throw .invalid("Value '\(logType.prefix(40))' at 'logType' must be None or Tail") }
        let context = try clientContext(request)
        let tenant = try self.tenant(record, request)
        guard request.header("x-amz-durable-execution-name") == nil else {
            throw .invalid("X-Amz-Durable-Execution-Name: the function has no DurableConfig")
        }
        let payload = request.body.isEmpty ? Array("{}".utf8) : request.body
        if let fault = JSONText.fault(in: payload) { throw .badContent("Could not parse request body into json: \(fault)") }
        if record.mayRetryInit, kind == "RequestResponse" {
            // What its initialization needed may be there now: each request tries it again, as Lambda does.
            let (again, log) = try await deployments.retry(record)
            guard let again, again.deployed != nil else {
                metrics.note(record.name, .functionError)
                return InvokeAnswer.initFailure(again ?? record, log: logType == "Tail" ? log : nil)
            }
            record = again
        }
        // Lambda calls such a function active: an event for it is taken, and its delivery tries the initialization.
        guard record.deployed != nil || record.mayRetryInit else { throw notReady(record) }
        let ready = record
        switch kind {
        case "DryRun": return GatewayResponse(status: 204)
        case "Event": return try await accept(ready, payload, context, tenant, identifier)
        case "RequestResponse": break
        default: throw .invalid("Value '\(kind.prefix(40))' at 'invocationType' must be RequestResponse, Event or DryRun")
        }
        guard let function = ready.deployed else { throw notReady(ready) }
        return try await serve(ready, function, payload, context, tenant, identifier, request, withLog: logType == "Tail")
    }

    private func serve(
        _ record: FunctionRecord, _ function: DeployedFunction, _ payload: [UInt8], _ context: String?, _ tenant: String?,
        _ identifier: String, _ request: GatewayRequest, withLog: Bool
    ) async throws(LambdaError) -> GatewayResponse {
        let trace = request.header("x-amzn-trace-id").flatMap { Gateway.isHeaderText($0) ? $0 : nil }
        do throws(InvokerError) {
            let served = try await invoker.invoke(function, tenant: tenant, concurrencyMax: record.settings.concurrencyMax) {
                Gateway.invocation(identifier, function, payload, context, trace, tenant)
            }
            let logging = record.settings.logging ?? LoggingSettings()
            let answer = InvokeAnswer(identifier: identifier, function: function, served: served, logging: logging)
            metrics.note(record.name, answer.outcome, served)
            let log = answer.log
            logs.append(log, record.name)
            note(answer)
            return answer.response(withLog: withLog, log: log)
        } catch {
            throw refused(record, error)
        }
    }

    /// The request as an instance gets it.
    static func invocation(
        _ identifier: String, _ function: DeployedFunction, _ payload: [UInt8], _ context: String?, _ trace: String?,
        _ tenant: String? = nil
    ) -> Invocation {
        Invocation(
            requestIdentifier: identifier, payload: payload, deadline: WallClock.milliseconds + Int64(function.timeoutSeconds) * 1000,
            clientContext: context, functionARN: FunctionName.resourceName(function.name), traceIdentifier: trace, tenant: tenant)
    }

    private func note(_ answer: InvokeAnswer) {
        guard case .failure(let error) = answer.served.outcome else { return }
        logger.warning(
            "instance ended",
            metadata: ["request": "\(answer.identifier)", "function": "\(answer.function.name)", "reason": "\(error)"])
    }

    private func refused(_ record: FunctionRecord, _ error: InvokerError) -> LambdaError {
        let name = record.name
        switch error {
        case .throttled(let reason):
            metrics.note(name, .throttled)
            let isReserved = record.settings.concurrencyMax.map { invoker.counts(name).active >= $0 } ?? false
            return .throttled("Rate Exceeded: \(reason)", isReserved: isReserved)
        case .unavailable(let reason):
            metrics.note(name, .unavailable)
            logger.error("no instance", metadata: ["function": "\(name)", "reason": "\(reason)"])
            return .gateway("\(reason)")
        case .draining: return .unavailable("The gateway ends; try again.")
        case .cancelled: return .unavailable("The client has gone.")
        }
    }

    /// `Invoke` with `Event`: durable before it is acknowledged.
    private func accept(
        _ record: FunctionRecord, _ payload: [UInt8], _ context: String?, _ tenant: String?, _ identifier: String
    ) async throws(LambdaError) -> GatewayResponse {
        guard payload.count <= configuration.limits.eventPayloadBytesMax else {
            throw .tooLarge("\(payload.count) byte payload is too large for the Event invocation type (limit 1048576 bytes)")
        }
        let now = WallClock.milliseconds
        var event = StoredEvent(
            identifier: identifier, function: record.name, payload: payload, clientContext: context, receivedAt: now, nextAt: now)
        event.tenant = tenant
        let wanted = event
        let isKept: Bool
        do {
            isKept = try await events.add(wanted)
        } catch {
            metrics.noteEvent { $0.eventsRefused += 1 }
            logger.error("event not kept", metadata: ["function": "\(record.name)", "reason": "\(error)"])
            throw .service("The event cannot be kept: \(error)")
        }
        guard isKept else { throw .throttled("Rate Exceeded: the queue of asynchronous invocations is full") }
        metrics.noteEvent { $0.eventsAccepted += 1 }
        return GatewayResponse(status: 202)
    }

    /// The function a request names, whatever its state.
    func record(_ text: String, _ request: GatewayRequest) throws(LambdaError) -> FunctionRecord {
        guard let reference = FunctionReference(text) else {
            throw .invalid(
                "1 validation error detected: Value '\(text.prefix(170))' at 'functionName' failed to satisfy constraint: "
                    + "letters, digits, - and _, at most 64, or a resource name")
        }
        if let qualifier = request.query["Qualifier"] ?? reference.qualifier, qualifier != "$LATEST" {
            throw .noVersion(reference.name, String(qualifier.prefix(128)))
        }
        guard let record = catalogue[reference.name] else { throw .notFound(reference.name) }
        return record
    }

    /// Whose request it is: named if, and only if, the function keeps its tenants apart.
    private func tenant(_ record: FunctionRecord, _ request: GatewayRequest) throws(LambdaError) -> String? {
        let tenant = request.header("x-amz-tenant-id")
        guard record.settings.isolatesTenants == true else {
            guard tenant == nil else {
                throw .invalid("X-Amz-Tenant-Id: the function has no TenancyConfig, its requests share instances")
            }
            return nil
        }
        guard let tenant, (1...256).contains(tenant.utf8.count), tenant.utf8.allSatisfy(Gateway.isTenantByte) else {
            throw .invalid(
                "The function keeps its tenants apart: add a valid tenant ID to the request (X-Amz-Tenant-Id: letters, digits and "
                    + "_ . : / = + - @, at most 256) and try again.")
        }
        return tenant
    }

    private static func isTenantByte(_ byte: UInt8) -> Bool {
        (48...57).contains(byte) || (65...90).contains(byte) || (97...122).contains(byte) || "._:/=+-@ ".utf8.contains(byte)
    }

    private func notReady(_ record: FunctionRecord) -> LambdaError {
        record.state == .failed
            ? .conflict("The operation cannot be performed at this time. The function is in the Failed state: \(record.reason ?? "")")
            : .conflict("The operation cannot be performed at this time. The function is currently in the following state: Pending")
    }

    private func clientContext(_ request: GatewayRequest) throws(LambdaError) -> String? {
        guard let text = request.header("x-amz-client-context") else { return nil }
        guard text.utf8.count <= 3583, let data = Data(base64Encoded: text), JSONText.fault(in: [UInt8](data)) == nil else {
            throw .badContent("Client context must be a valid Base64-encoded JSON object of at most 3583 bytes.")
        }
        // It becomes a header field in the guest, where line ends would begin another.
        let context = String(decoding: data, as: UTF8.self)
        return String(context.map { $0.isNewline ? " " : $0 })
    }

    static func isHeaderText(_ text: String) -> Bool {
        text.utf8.count <= 1024 && text.utf8.allSatisfy { (32...126).contains($0) }
    }
}
