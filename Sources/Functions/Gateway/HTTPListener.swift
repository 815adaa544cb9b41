internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix

/// Listens for connections and gives each its handlers.
final class HTTPListener: Sendable {
    private let channel: any Channel
    private let limits: GatewayLimits
    private let drain: DrainState
    private let limit: ConnectionLimit
    private let budget: ByteBudget

    /// Connections on their way out, beyond those that are served.
    private static let closingMax = 64

    /// The port listened on, which the kernel chose if it was asked for port 0.
    var port: Int { channel.localAddress?.port ?? 0 }
    /// Connections open now.
    var connections: Int { drain.connections }
    /// Bytes of requests in memory now.
    var bodyBytes: Int { budget.bytesUsed }

    /// Begins to listen.
    init(host: String, port: Int, group: any EventLoopGroup, service: any RequestService, limits: GatewayLimits) async throws {
        let drain = DrainState(limits: limits)
        let limit = ConnectionLimit(connectionsMax: limits.connectionsMax + HTTPListener.closingMax)
        let budget = ByteBudget(limit: limits.bodyBytesMax)
        self.limits = limits
        self.drain = drain
        self.limit = limit
        self.budget = budget
        channel = try await ServerBootstrap(group: group)
            .serverChannelOption(ChannelOptions.backlog, value: 1024)
            .serverChannelOption(ChannelOptions.socketOption(.so_reuseaddr), value: 1)
            .serverChannelOption(ChannelOptions.maxMessagesPerRead, value: 1)
            .serverChannelInitializer { $0.pipeline.addHandler(limit) }
            .childChannelInitializer { child in
                child.eventLoop.makeCompletedFuture {
                    try HTTPListener.addHandlers(to: child, limits) {
                        ConnectionHandler(service: service, limits: limits, budget: budget, drain: drain)
                    }
                }
            }
            .childChannelOption(ChannelOptions.tcpOption(.tcp_nodelay), value: 1)
            .childChannelOption(ChannelOptions.allowRemoteHalfClosure, value: false)
            .bind(host: host, port: port).get()
    }

    private static func addHandlers(to child: any Channel, _ limits: GatewayLimits, _ last: () -> ConnectionHandler) throws {
        var heads = NIOHTTPDecoderLimitConfiguration()
        heads.maxHeaderFieldSize = limits.headerBytesMax
        heads.maxHeaderListSize = limits.headerBytesMax
        let pipeline = child.pipeline.syncOperations
        try pipeline.addHandler(HTTPResponseEncoder())
        try pipeline.addHandler(ByteToMessageHandler(HTTPRequestDecoder(limitConfiguration: heads)))
        try pipeline.addHandler(HTTPServerPipelineHandler())
        try pipeline.addHandler(NIOHTTPResponseHeadersValidator())
        try pipeline.addHandler(HTTPServerProtocolErrorHandler())
        try pipeline.addHandler(last())
    }

    /// Stops listening, lets running requests end for a bounded time, and closes the rest; true when none had to be cut off.
    func close() async -> Bool {
        try? await channel.close()
        drain.begin()
        let end = ContinuousClock.now + .seconds(limits.drainSeconds)
        while drain.connections > 0, ContinuousClock.now < end { try? await Task.sleep(for: .milliseconds(10)) }
        let isDrained = drain.connections == 0
        drain.closeAll()
        return isDrained
    }
}
