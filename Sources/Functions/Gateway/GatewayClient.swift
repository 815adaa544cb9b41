internal import Linux
internal import NIOCore
internal import NIOHTTP1
internal import NIOPosix

/// Speaks to a running gateway; for commands, which have nothing else to do meanwhile.
public struct GatewayClient: Sendable {
    /// An answer.
    public struct Answer: Sendable {
        /// The status code.
        public var status: Int
        /// Header fields, names in lower case.
        public var headers: [String: String]
        /// The body.
        public var body: [UInt8]
    }

    /// Why there was no answer.
    public struct Failure: Error, Hashable, Sendable, CustomStringConvertible {
        /// What failed, and what to do.
        public let description: String
    }

    /// The most bytes of an answer's body: the code of a function.
    static let bodyBytesMax = 80 << 20

    private let host: String
    private let port: Int
    private let token: String?

    /// A client of a gateway.
    ///
    /// - Parameter endpoint: `http://HOST[:PORT]`.
    /// - Throws: `Failure` for another form.
    public init(endpoint: String, token: String?) throws(Failure) {
        guard endpoint.hasPrefix("http://") else { throw Failure(description: "The endpoint \(endpoint) is not http://HOST:PORT") }
        var rest = endpoint.dropFirst(7)
        if rest.hasSuffix("/") { rest = rest.dropLast() }
        guard let address = ListenAddress(String(rest)) else {
            throw Failure(description: "The endpoint \(endpoint) is not http://HOST:PORT")
        }
        host = address.host
        port = address.port
        self.token = token
    }

    /// Whether an endpoint is of this host.
    public static func isLoopback(_ endpoint: String) -> Bool {
        guard let client = try? GatewayClient(endpoint: endpoint, token: nil) else { return false }
        return GatewayConfiguration.isLoopback(client.host)
    }

    /// Sends a request and waits for the answer.
    ///
    /// - Parameter seconds: how long the answer may take.
    /// - Throws: `Failure`.
    public func send(
        _ method: String, _ path: String, headers: [(String, String)] = [], body: [UInt8] = [], seconds: Int = 60
    ) throws(Failure) -> Answer {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: 1)
        defer { try? group.syncShutdownGracefully() }
        let promise = group.next().makePromise(of: Answer.self)
        do {
            let channel = try ClientBootstrap(group: group)
                .connectTimeout(.seconds(10))
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHTTPClientHandlers()
                        try channel.pipeline.syncOperations.addHandler(AnswerCollector(promise))
                    }
                }
                .connect(host: host, port: port).wait()
            var head = HTTPRequestHead(version: .http1_1, method: HTTPMethod(rawValue: method), uri: path)
            head.headers.add(name: "Host", value: "\(host.contains(":") ? "[\(host)]" : host):\(port)")
            head.headers.add(name: "Content-Length", value: "\(body.count)")
            head.headers.add(name: "Connection", value: "close")
            if let token { head.headers.add(name: "Authorization", value: "Bearer \(token)") }
            for (name, value) in headers { head.headers.add(name: name, value: value) }
            channel.write(HTTPClientRequestPart.head(head), promise: nil)
            channel.write(HTTPClientRequestPart.body(.byteBuffer(channel.allocator.buffer(bytes: body))), promise: nil)
            channel.writeAndFlush(HTTPClientRequestPart.end(nil), promise: nil)
            let timer = group.next().scheduleTask(in: .seconds(Int64(seconds))) {
                promise.fail(Failure(description: "No answer within \(seconds) s"))
            }
            defer { timer.cancel() }
            return try promise.futureResult.wait()
        } catch {
            promise.fail(error)
            throw failure(error)
        }
    }

    private func failure(_ error: any Error) -> Failure {
        let place = "\(host.contains(":") ? "[\(host)]" : host):\(port)"
        guard let error = error as? NIOConnectionError else {
            return Failure(description: "The gateway at \(place) did not answer: \(error)\nLook at what aurora serve printed.")
        }
        let reasons = error.connectionErrors.map { failure in
            (failure.error as? IOError).map { "\(Errno(rawValue: $0.errnoCode))" } ?? "\(failure.error)"
        }
        let reason = reasons.isEmpty ? "the name \(host) has no address" : reasons.joined(separator: "; ")
        return Failure(
            description: "No gateway listens at \(place): \(reason)\nStart one with: aurora serve --listen \(place)\n"
                + "or name the one that runs: --endpoint http://HOST:PORT, or $AURORA_ENDPOINT")
    }
}

/// `HOST:PORT`, `HOST`, `[IPV6]:PORT` or `:PORT`.
public struct ListenAddress: Hashable, Sendable {
    /// The host, without brackets.
    public var host: String
    /// The port.
    public var port: Int

    /// Reads an address; nil for what is none.
    public init?(_ text: String, portDefault: Int = 9000) {
        var host = text[...]
        var port = "\(portDefault)"
        if text.hasPrefix("["), let end = text.firstIndex(of: "]") {
            host = text[text.index(after: text.startIndex)..<end]
            let rest = text[text.index(after: end)...]
            if !rest.isEmpty {
                guard rest.first == ":" else { return nil }
                port = String(rest.dropFirst())
            }
        } else if let colon = text.lastIndex(of: ":") {
            host = text[..<colon]
            port = String(text[text.index(after: colon)...])
        }
        guard let number = UInt16(port), !host.contains("/"), !host.contains(" ") else { return nil }
        self.host = host.isEmpty ? "127.0.0.1" : String(host)
        self.port = Int(number)
    }
}

/// Puts the parts of an answer together.
private final class AnswerCollector: ChannelInboundHandler {
    typealias InboundIn = HTTPClientResponsePart

    private let promise: EventLoopPromise<GatewayClient.Answer>
    private var answer = GatewayClient.Answer(status: 0, headers: [:], body: [])

    init(_ promise: EventLoopPromise<GatewayClient.Answer>) { self.promise = promise }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head):
            answer.status = Int(head.status.code)
            for (name, value) in head.headers { answer.headers[name.lowercased()] = value }
        case .body(let bytes):
            guard answer.body.count + bytes.readableBytes <= GatewayClient.bodyBytesMax else {
                return errorCaught(context: context, error: GatewayClient.Failure(description: "The answer is too long"))
            }
            answer.body.append(contentsOf: bytes.readableBytesView)
        case .end:
            promise.succeed(answer)
            context.close(promise: nil)
        }
    }

    func channelInactive(context: ChannelHandlerContext) {
        promise.fail(GatewayClient.Failure(description: "the connection was closed before the answer"))
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        promise.fail(error)
        context.close(promise: nil)
    }
}
