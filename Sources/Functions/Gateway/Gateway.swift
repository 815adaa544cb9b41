internal import Linux
public import Logging
internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix

/// Serves functions over HTTP as Lambda does: invocation, management, events, metrics, a page.
public final class Gateway: Sendable {
    let configuration: GatewayConfiguration
    let catalogue: Catalogue
    let source: any InstanceSource
    let invoker: Invoker
    let deployments: Deployments
    let events: EventQueue
    let metrics: GatewayMetrics
    let logs: FunctionLogs
    let files: FileWork
    let logger: Logger
    let startedAt: Int64
    private let authorization: Authorization
    private let group: MultiThreadedEventLoopGroup
    private let listener: ListenerSlot
    private let upkeep: TaskSlot
    private let eventThread: NIOThreadPool

    /// The port listened on.
    public var port: Int { listener.value?.port ?? 0 }
    var connections: Int { listener.value?.connections ?? 0 }
    var bodyBytes: Int { listener.value?.bodyBytes ?? 0 }

    /// Sets a gateway up: opens functions and events.
    ///
    /// - Throws: `GatewayError`.
    public init(
        _ configuration: GatewayConfiguration, source: any InstanceSource, builder: any FunctionBuilder, logger: Logger
    ) throws(GatewayError) {
        guard configuration.token != nil || GatewayConfiguration.isLoopback(configuration.host) else {
            throw .tokenNeeded(host: configuration.host)
        }
        let catalogue: Catalogue
        do throws(CatalogueError) { catalogue = try Catalogue(path: configuration.path) } catch { throw .state(error.description) }
        let logThread = NIOThreadPool(numberOfThreads: 1)
        let eventLog: EventLog
        do throws(SystemError) {
            eventLog = try EventLog(path: "\(configuration.path)/.events.log", pool: logThread, disk: configuration.events.disk)
        } catch { throw .state("\(error)") }
        logThread.start()
        let pool = NIOThreadPool(numberOfThreads: 2)
        pool.start()
        if let damage = eventLog.damage { logger.error("event log damaged", metadata: ["reason": "\(damage)"]) }
        for (name, reason) in catalogue.damaged {
            logger.error("function not served", metadata: ["function": "\(name)", "reason": "\(reason)"])
        }
        var limits = configuration.invoker
        let path = configuration.path
        if limits.room.disk() == nil { limits.room.disk = { HostRoom.disk(of: path) } }
        let invoker = Invoker(source: source, limits: limits)
        let metrics = GatewayMetrics()
        let files = FileWork(pool: pool)
        let logs = FunctionLogs(catalogue: catalogue, pool: pool)
        self.configuration = configuration
        self.catalogue = catalogue
        self.source = source
        self.invoker = invoker
        self.metrics = metrics
        self.files = files
        self.logs = logs
        self.logger = logger
        startedAt = WallClock.milliseconds
        authorization = Authorization(token: configuration.token)
        group = MultiThreadedEventLoopGroup(numberOfThreads: min(4, System.coreCount))
        listener = ListenerSlot()
        upkeep = TaskSlot()
        eventThread = logThread
        deployments = Deployments(
            catalogue: catalogue, builder: builder, source: source, limits: configuration.builds, files: files, logger: logger
        ) { record, log in
            if !log.isEmpty { logs.append(log, record.name) }
            invoker.forget(record.name)
            logger.info(
                record.updateStatus == .successful ? "function built" : "function not built",
                metadata: ["function": "\(record.name)", "revision": "\(record.revision)", "reason": "\(record.reason ?? "")"])
        }
        let delivery = EventDelivery(
            catalogue: catalogue, deployments: deployments, invoker: invoker, metrics: metrics, logs: logs, logger: logger)
        events = EventQueue(
            log: eventLog, limits: configuration.events, deliver: delivery.deliver, fate: DeadLetters(catalogue: catalogue).fate,
            report: delivery.report)
    }

    /// Begins to listen, to deliver events and to build what was left unfinished.
    ///
    /// - Throws: `GatewayError.listen`.
    public func start() async throws(GatewayError) {
        do {
            listener.value = try await HTTPListener(
                host: configuration.host, port: configuration.port, group: group, service: self, limits: configuration.limits)
        } catch {
            var reason = "\(error)"
            if let error = error as? SocketAddressError.UnknownHost { reason = "there is no host \(error.host); write HOST:PORT" }
            if let error = error as? IOError { reason = "\(Errno(rawValue: error.errnoCode))" }
            throw .listen(address: "\(configuration.host):\(configuration.port)", reason: reason)
        }
        await events.start()
        deployments.resume()
        upkeep.value = Task { [invoker, events] in
            while !Task.isCancelled {
                try? await Task.sleep(for: .seconds(1))
                events.retry()
                invoker.reclaim(memoryAvailable: HostMemory.availableBytes)
            }
        }
        logger.info(
            "gateway listens",
            metadata: ["address": "\(configuration.host):\(port)", "functions": "\(catalogue.all.count)"])
    }

    /// Ends: takes no more requests, lets those that run end for a bounded time, ends every instance.
    ///
    /// - Returns: whether every request could be answered.
    @discardableResult
    public func stop() async -> Bool {
        logger.info("gateway ends")
        upkeep.value?.cancel()
        await events.stop()
        let isDrained = await listener.value?.close() ?? true
        await invoker.drain()
        try? await group.shutdownGracefully()
        // What waits to be written is written first; what comes later is written by who brings it.
        try? await files.pool.shutdownGracefully()
        try? await eventThread.shutdownGracefully()
        catalogue.close()
        logger.info("gateway ended", metadata: ["drained": "\(isDrained)"])
        return isDrained
    }
}

extension Gateway: RequestService {
    func bodyBytesMax(_ request: GatewayRequest) -> Int {
        switch Route(request) {
        case .invoke:
            request.header("x-amz-invocation-type") == "Event"
                ? configuration.limits.eventPayloadBytesMax : configuration.limits.payloadBytesMax
        case .create, .updateCode: configuration.limits.codeRequestBytesMax
        default: configuration.limits.otherRequestBytesMax
        }
    }

    func refusal(_ request: GatewayRequest) -> GatewayResponse? {
        if case .health = Route(request) { return nil }
        // The page holds nothing but its own text: what it shows it must ask for.
        if case .page = Route(request) { return nil }
        return authorization.refusal(request).map { finished($0.response, Identifier.uuid()) }
    }

    func failure(status: Int, _ message: String) -> GatewayResponse {
        let error = status == 413 ? LambdaError.tooLarge(message) : status == 503 ? .unavailable(message) : .other(status, message)
        return finished(error.response, Identifier.uuid())
    }

    func respond(_ request: GatewayRequest) async -> GatewayResponse {
        let identifier = Identifier.uuid()
        do throws(LambdaError) {
            return finished(try await answer(request, identifier), identifier)
        } catch {
            logger.debug(
                "request refused",
                metadata: ["request": "\(identifier)", "status": "\(error.status)", "type": "\(error.type)", "reason": "\(error.message)"])
            return finished(error.response, identifier)
        }
    }

    private func finished(_ response: GatewayResponse, _ identifier: String) -> GatewayResponse {
        var response = response
        response.headers.replaceOrAdd(name: "x-amzn-RequestId", value: identifier)
        metrics.noteAnswer(response.status)
        return response
    }

    private func answer(_ request: GatewayRequest, _ identifier: String) async throws(LambdaError) -> GatewayResponse {
        switch Route(request) {
        case .invoke(let name): try await invoke(name, request, identifier)
        case .create: try await createFunction(request)
        case .list: try listFunctions(request)
        case .get(let name): try getFunction(name, request)
        case .getConfiguration(let name): try getConfiguration(name, request)
        case .updateCode(let name): try await updateCode(name, request)
        case .updateConfiguration(let name): try await updateConfiguration(name, request)
        case .delete(let name): try await deleteFunction(name, request)
        case .concurrency(let name): try await concurrency(name, request)
        case .versions(let name): try listVersions(name)
        case .tags(let name): try await tags(name, request)
        case .account: accountSettings()
        case .page: page()
        case .health: health()
        case .metrics: await metricsText()
        case .status: await statusReport()
        case .functionLog(let name): try await functionLog(name, request)
        case .functionCode(let name): try await functionCode(name)
        case .events(let identifier): try await eventsReport(identifier, request)
        case .unknown: throw .unknown(request.method.rawValue, "/" + request.path.joined(separator: "/"))
        }
    }
}
