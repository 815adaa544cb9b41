internal import FoundationEssentials
internal import Linux
internal import NIOHTTP1

extension Gateway {
    /// The page for browsers.
    func page() -> GatewayResponse {
        var response = GatewayResponse(status: 200, contentType: "text/html; charset=utf-8", body: PackageResources.page_html)
        let policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:"
        response.headers.add(name: "Content-Security-Policy", value: "\(policy); frame-ancestors 'none'; base-uri 'none'")
        response.headers.add(name: "X-Content-Type-Options", value: "nosniff")
        response.headers.add(name: "Cache-Control", value: "no-store")
        return response
    }

    /// `/healthz`: requests are served, and what is not as it should be.
    ///
    /// No token is needed: reasons are in the gateway's log.
    func health() -> GatewayResponse {
        let text = events.failure == nil ? "ok\n" : "degraded: asynchronous invocations are refused, because they cannot be kept\n"
        return GatewayResponse(status: 200, contentType: "text/plain; charset=utf-8", body: Array(text.utf8))
    }

    /// Functions and their figures, for the page and `aurora fn`.
    func statusReport() async -> GatewayResponse {
        let totals = invoker.totals
        let counts = await events.counts
        let snapshot = metrics.snapshot
        let report = StatusReport(
            startedAt: "\(WallClock.iso(startedAt))Z", now: "\(WallClock.iso(WallClock.milliseconds))Z",
            instances: .init(active: totals.active, starting: totals.starting, idle: totals.idle, waiting: totals.waiting),
            events: .init(waiting: counts.waiting, running: counts.running, dead: counts.dead),
            connections: connections,
            residentBytes: HostMemory.ownResidentBytes, launchCache: source.launchCache,
            functions: catalogue.all.map { record in
                var function = StatusReport.Function(record, snapshot.functions[record.name] ?? .init(), invoker.counts(record.name))
                function.step = deployments.step(record.name)
                function.launchBytes = record.deployed.flatMap { source.launchBytes(of: $0) }
                return function
            })
        return GatewayResponse(status: 200, body: JSONBody.encode(report))
    }

    /// The end of a function's log.
    func functionLog(_ text: String, _ request: GatewayRequest) async throws(LambdaError) -> GatewayResponse {
        let name = try record(text, request).name
        var count = 64 << 10
        if let text = request.query["bytes"] {
            guard let number = Int(text), (1...(4 << 20)).contains(number) else { throw .invalid("bytes must be 1 to \(4 << 20)") }
            count = number
        }
        let wanted = count
        let bytes = await files.run { [logs] in logs.tail(name, bytesMax: wanted) }
        return GatewayResponse(status: 200, contentType: "text/plain; charset=utf-8", body: bytes)
    }

    /// The archive of a function's code.
    func functionCode(_ name: String) async throws(LambdaError) -> GatewayResponse {
        guard let record = catalogue[name] else { throw .notFound(name) }
        let path = catalogue.codePath(record)
        let bytes = await files.run { try? DurableFile.read(path, bytesMax: SettingsCheck.codeBytesMax) }
        guard let bytes else { throw .service("The code of \(name) cannot be read") }
        return GatewayResponse(status: 200, contentType: "application/zip", body: bytes)
    }

    /// The asynchronous invocations that are kept; or takes a dead letter away, or has it delivered again.
    func eventsReport(_ identifier: String?, _ request: GatewayRequest) async throws(LambdaError) -> GatewayResponse {
        if let identifier {
            var isThere = false
            do {
                isThere =
                    request.method == .DELETE ? try await events.removeDeadLetter(identifier) : try await events.replay(identifier)
            } catch { throw .service("\(error)") }
            guard isThere else { throw .other(404, "There is no dead letter \(identifier.prefix(64))") }
            return GatewayResponse(status: 204)
        }
        let entries = events.events.filter { request.query["function"] == nil || $0.function == request.query["function"] }
        return GatewayResponse(status: 200, body: JSONBody.encode(EventsReport(events: entries.map { .init($0) })))
    }

    /// `/metrics`.
    func metricsText() async -> GatewayResponse {
        let counts = await events.counts
        let text = MetricsReport(gateway: self, events: counts).text
        return GatewayResponse(status: 200, contentType: "text/plain; version=0.0.4; charset=utf-8", body: Array(text.utf8))
    }
}

/// What `/aurora/status` answers.
public struct StatusReport: Codable, Sendable {
    /// Instances of all functions.
    public struct Instances: Codable, Sendable {
        /// Serving or starting.
        public var active: Int
        /// Being restored.
        public var starting: Int
        /// Waiting for a request.
        public var idle: Int
        /// Requests that wait for an instance.
        public var waiting: Int
    }
    /// Asynchronous invocations.
    public struct Events: Codable, Sendable {
        /// Not delivered yet.
        public var waiting: Int
        /// Being delivered.
        public var running: Int
        /// Given up.
        public var dead: Int
    }
    /// One way instances come about, with times in milliseconds from request to answer.
    public struct Times: Codable, Sendable {
        /// Requests.
        public var count: UInt64
        /// The median.
        public var p50: Double
        /// The 90th percentile.
        public var p90: Double
        /// The 99th percentile.
        public var p99: Double
    }
    /// One function.
    public struct Function: Codable, Sendable {
        /// Its name.
        public var name: String
        /// Its runtime.
        public var runtime: String
        /// Its handler.
        public var handler: String
        /// Lambda's state.
        public var state: String
        /// Lambda's status of the last change.
        public var updateStatus: String
        /// Why.
        public var reason: String?
        /// Memory, MiB.
        public var memoryMiB: Int
        /// Time limit, seconds.
        public var timeoutSeconds: Int
        /// When it was changed.
        public var modifiedAt: String
        /// Bytes of the archive.
        public var codeBytes: Int
        /// Bytes the store grew by.
        public var storeBytes: Int?
        /// Instances that serve or start.
        public var active: Int
        /// Idle instances.
        public var idle: Int
        /// Requests that wait.
        public var waiting: Int
        /// Requests by how they ended.
        public var outcomes: [String: UInt64]
        /// Times by where the instance came from.
        public var times: [String: Times]
        /// Private memory of an instance, last seen, bytes.
        public var privateBytes: Int?
        /// The most memory that the function has had in any instance, bytes.
        public var memoryPeakBytes: Int?
        /// Bytes of its launch image on the disk; nil: there is none, or nobody asked for it since the gateway was started.
        public var launchBytes: Int?
        /// How far its build is; nil: it waits, or nothing is built.
        public var step: BuildStep?
    }

    /// When the gateway was started.
    public var startedAt: String
    /// The time of the report.
    public var now: String
    /// Instances of all functions.
    public var instances: Instances
    /// Asynchronous invocations.
    public var events: Events
    /// Open connections.
    public var connections: Int
    /// Resident memory of the gateway, bytes.
    public var residentBytes: Int?
    /// How full the cache of launch images is.
    public var launchCache: LaunchCacheReport?
    /// All functions, by name.
    public var functions: [Function]
}

extension StatusReport.Function {
    init(_ record: FunctionRecord, _ counts: GatewayMetrics.Function, _ instances: (active: Int, idle: Int, waiting: Int)) {
        name = record.name
        runtime = record.settings.runtime
        handler = record.settings.handler
        state = record.state.rawValue
        updateStatus = record.updateStatus.rawValue
        reason = record.reason
        memoryMiB = record.settings.memoryMiB
        timeoutSeconds = record.settings.timeoutSeconds
        modifiedAt = record.modifiedAt
        codeBytes = record.codeBytes
        storeBytes = record.storeBytes
        (active, idle, waiting) = instances
        outcomes = Dictionary(uniqueKeysWithValues: counts.outcomes.map { ($0.rawValue, $1) })
        times = Dictionary(uniqueKeysWithValues: counts.latencies.map { ($0.rawValue, .init($1)) })
        privateBytes = counts.privateBytes
        memoryPeakBytes = counts.memoryPeakBytes
    }
}

extension StatusReport.Times {
    init(_ histogram: LatencyHistogram) {
        func milliseconds(_ share: Double) -> Double { Double((histogram.percentile(share) ?? 0) / 1000) / 1000 }
        count = histogram.count
        p50 = milliseconds(0.5)
        p90 = milliseconds(0.9)
        p99 = milliseconds(0.99)
    }
}

/// What `/aurora/events` answers.
public struct EventsReport: Codable, Sendable {
    /// One asynchronous invocation.
    public struct Event: Codable, Sendable {
        /// The request's id.
        public var identifier: String
        /// The function.
        public var function: String
        /// `waiting` or `dead`.
        public var state: String
        /// When it was acknowledged.
        public var receivedAt: String
        /// Failed attempts.
        public var attempts: Int
        /// Why the last one failed.
        public var failure: String?
        /// The payload's beginning, as text.
        public var payload: String
        /// The request that failed, when this is its record for the target of its function's dead letters.
        public var origin: String?
    }
    /// All of them, oldest first.
    public var events: [Event]
}

extension EventsReport.Event {
    static let payloadBytesMax = 1024

    init(_ event: StoredEvent) {
        identifier = event.identifier
        function = event.function
        state = event.deadAt == nil ? "waiting" : "dead"
        receivedAt = "\(WallClock.iso(event.receivedAt))Z"
        attempts = event.attempts
        failure = event.failure
        payload = String(decoding: event.payload.prefix(EventsReport.Event.payloadBytesMax), as: UTF8.self)
        origin = event.origin
    }
}
