import ArgumentParser
import CLinux
import Functions
import Groups
import Linux
import Logging

/// `aurora serve`.
struct ServeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve", abstract: "Serve functions over HTTP, as AWS Lambda does.",
        discussion: """
            Clients of Lambda need its address only: aws lambda invoke --endpoint-url http://127.0.0.1:9000 …
            Each request must show a token: the one of --token-file, or one that is made at the first start, which aurora fn finds \
            by itself and other clients find in DATA/functions/.token.
            Ends at SIGTERM when running requests were answered; at a second one at once.
            """)

    @Option(parsing: .unconditional, help: ArgumentHelp("Where to listen.", valueName: "host:port")) var listen = "127.0.0.1:9000"
    @Option(
        parsing: .unconditional, help: ArgumentHelp("A file with the token that clients must show, for its owner alone.", valueName: "file")
    )
    var tokenFile: String?
    @Flag(help: "Serve whoever connects, which is every user of this host. Other hosts are not served then.") var noToken = false
    @Option(parsing: .unconditional, help: ArgumentHelp("Requests served at once, over all functions.", valueName: "count"))
    var concurrency = 256
    @Option(parsing: .unconditional, help: ArgumentHelp("Instances alive at once, idle ones included.", valueName: "count")) var instances =
        1024
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Memory promised to instances alive at once; the default is eight times the host's.", valueName: "size"))
    var memory: String?
    @Option(parsing: .unconditional, help: ArgumentHelp("How long an idle instance is kept.", valueName: "seconds")) var idleTimeout = 300
    @Option(parsing: .unconditional, help: ArgumentHelp("How long a request waits for an instance before 429.", valueName: "milliseconds"))
    var waitLimit = 10_000
    @Option(parsing: .unconditional, help: ArgumentHelp("Machines kept ready for each runtime.", valueName: "count")) var pool = 4
    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Room for launch images on the disk; those used longest ago go first, those in use stay.", valueName: "size"))
    var launchCache = "16G"
    @Option(parsing: .unconditional, help: ArgumentHelp("Before the first retry of an asynchronous invocation.", valueName: "milliseconds"))
    var retryDelay = 60_000
    @Option(parsing: .unconditional, help: "The least level of messages: debug, info, warning, error.") var logLevel = "info"

    func validate() throws {
        for (name, value, range) in [
            ("concurrency", concurrency, 1...100_000), ("instances", instances, 1...100_000), ("idle-timeout", idleTimeout, 1...86_400),
            ("wait-limit", waitLimit, 0...900_000), ("pool", pool, 0...1024), ("retry-delay", retryDelay, 1...3_600_000),
        ] where !range.contains(value) {
            throw ValidationError("--\(name) must be \(range.lowerBound) to \(range.upperBound)")
        }
        for size in [memory, launchCache].compactMap(\.self) { _ = try MemorySize.parse(size) }
        if noToken, tokenFile != nil { throw ValidationError("--no-token and --token-file contradict each other") }
        if ListenAddress(listen) == nil { throw ValidationError("--listen \(listen.prefix(80)) is not HOST:PORT, as 127.0.0.1:9000") }
        if Logger.Level(rawValue: logLevel) == nil { throw ValidationError("--log-level \(logLevel.prefix(20)) is not a level") }
    }

    func run() throws {
        let signals = try ServeSignals()
        _ = clinux_descriptor_limit_raise()
        let level = Logger.Level(rawValue: logLevel) ?? .info
        let logger = Logger(label: "aurora.gateway") { _ in JSONLogHandler(level: level) }
        try ServeRun(try configuration(), try parts(), logger).run(until: signals)
    }

    private func parts() throws -> FunctionParts {
        try FunctionParts(CommandContext.data, poolSize: pool, launchBytesMax: try MemorySize.parse(launchCache))
    }

    private func configuration() throws -> GatewayConfiguration {
        guard let address = ListenAddress(listen) else { throw ValidationError("--listen is not HOST:PORT") }
        let data = CommandContext.data
        let token = noToken ? nil : try tokenFile.map { try TokenFile.read($0) } ?? TokenFile.ensure(data)
        var configuration = GatewayConfiguration(
            host: address.host, port: address.port, token: token, path: "\(data.path)/functions")
        configuration.invoker.concurrencyMax = concurrency
        configuration.invoker.instancesMax = instances
        if let memory { configuration.invoker.memoryPromisedMax = try MemorySize.parse(memory) }
        configuration.invoker.idleSeconds = idleTimeout
        configuration.invoker.waitMilliseconds = waitLimit
        configuration.events.retryMilliseconds = Int64(retryDelay)
        return configuration
    }
}

/// The signals that end a gateway, blocked in every thread from now on.
struct ServeSignals {
    private let descriptor: SharedDescriptor

    init() throws {
        clinux_ignore_signal(SIGPIPE)
        let signals = [SIGTERM, SIGINT]
        let number = try systemCall("receive", "signals") { clinux_signal_descriptor(signals, Int32(signals.count)) }
        try Socket.setNonBlocking(Int32(number), false)
        descriptor = SharedDescriptor(OwnedDescriptor(adopting: Int32(number)))
    }

    /// Waits for the next one.
    func wait() { _ = clinux_signal_read(descriptor.rawValue) }
}

/// A gateway from its start to its end.
final class ServeRun: Sendable {
    private let gateway: Gateway
    private let parts: FunctionParts

    init(_ configuration: GatewayConfiguration, _ parts: FunctionParts, _ logger: Logger) throws {
        self.parts = parts
        gateway = try Gateway(configuration, source: parts.source, builder: parts.builder, logger: logger)
    }

    /// Serves until a signal comes.
    func run(until signals: ServeSignals) throws {
        let started = AsyncBridge.wait { [gateway] in
            do throws(GatewayError) {
                try await gateway.start()
                return Result<Void, GatewayError>.success(())
            } catch { return .failure(error) }
        }
        try started.get()
        signals.wait()
        try DetachedThread.start("second signal") { @Sendable in
            signals.wait()
            _exit(ExitCodes.failure)
        }
        let isDrained = AsyncBridge.wait { [gateway] in await gateway.stop() }
        parts.end()
        if !isDrained { throw ExitCode(ExitCodes.failure) }
    }
}
