internal import NIOCore
internal import NIOHTTP1

/// What answers requests: the gateway, or a stand-in of a test.
protocol RequestService: Sendable {
    /// The most bytes of a body that a request with this head may have.
    func bodyBytesMax(_ request: GatewayRequest) -> Int
    /// Why a request with this head is not taken at all; asked before its body is read.
    func refusal(_ request: GatewayRequest) -> GatewayResponse?
    /// Answers a request; the task is cancelled when the client has gone.
    func respond(_ request: GatewayRequest) async -> GatewayResponse
    /// The answer to a request that cannot be read.
    func failure(status: Int, _ message: String) -> GatewayResponse
}

/// One client's connection: takes a request, has it answered, takes the next.
///
/// `HTTPServerPipelineHandler` before it holds back what is pipelined until the answer was sent. Everything here happens on
/// the connection's event loop.
final class ConnectionHandler: ChannelInboundHandler {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart

    private enum Phase {
        case idle
        case receiving(HTTPRequestHead, GatewayRequest, bytesMax: Int)
        /// The request was answered before it was whole; the rest is thrown away.
        case discarding
        case answering(Task<Void, Never>, isKeptAlive: Bool, isHead: Bool)
    }

    private let service: any RequestService
    private let limits: GatewayLimits
    private let budget: ByteBudget
    private let drain: DrainState
    private var phase = Phase.idle
    private var body: [UInt8] = []
    private var bytesTaken = 0
    private var deadline = NIODeadline.distantFuture
    /// Its number among the open connections; nil when there was no place for it.
    private var number: UInt64?
    private var timer: RepeatedTask?

    init(service: any RequestService, limits: GatewayLimits, budget: ByteBudget, drain: DrainState) {
        self.service = service
        self.limits = limits
        self.budget = budget
        self.drain = drain
    }

    func channelActive(context: ChannelHandlerContext) {
        deadline = .now() + .seconds(Int64(limits.headerSeconds))
        let step = TimeAmount.milliseconds(Int64(max(1, min(limits.headerSeconds, limits.idleSeconds, limits.transferSeconds))) * 250)
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        timer = context.eventLoop.scheduleRepeatedTask(initialDelay: step, delay: step) { _ in
            let (handler, context) = bound.value
            handler.checkTime(context)
        }
        number = drain.add(context.channel)
        // Who has no place is told so when it asks; an answer before would be out of order.
        if number == nil { deadline = .now() + .seconds(1) }
        context.fireChannelActive()
    }

    func channelInactive(context: ChannelHandlerContext) {
        timer?.cancel()
        timer = nil
        if case .answering(let task, _, _) = phase { task.cancel() }
        releaseBody()
        if let number { drain.remove(number) }
        context.fireChannelInactive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head): begin(head, context)
        case .body(let bytes): append(bytes, context)
        case .end: complete(context)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // The protocol's handler has answered what is not HTTP; everything else is a broken connection.
        context.close(promise: nil)
    }

    /// `HTTPServerPipelineHandler` asks for this when the server is told to end: idle connections are closed at once.
    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if event is ChannelEvent, case .inputClosed? = event as? ChannelEvent { context.close(promise: nil) }
        if event is ChannelShouldQuiesceEvent, case .idle = phase { context.close(promise: nil) }
        context.fireUserInboundEventTriggered(event)
    }

    private func begin(_ head: HTTPRequestHead, _ context: ChannelHandlerContext) {
        guard case .idle = phase else { return }
        deadline = .now() + .seconds(Int64(limits.transferSeconds))
        guard let number else {
            return refuse(service.failure(status: 503, "The gateway serves as many connections as it may; try again."), context)
        }
        drain.note(number, isIdle: false)
        guard let request = GatewayRequest(head) else {
            return refuse(service.failure(status: 400, "The request's target is not a path with valid escapes."), context)
        }
        if let refusal = service.refusal(request) { return refuse(refusal, context) }
        let bytesMax = service.bodyBytesMax(request)
        if let length = head.headers.first(name: "content-length").flatMap({ Int($0) }), length > bytesMax {
            return refuse(service.failure(status: 413, tooLarge(bytesMax)), context)
        }
        phase = .receiving(head, request, bytesMax: bytesMax)
        if head.headers.first(name: "expect")?.lowercased() == "100-continue" {
            context.writeAndFlush(wrapOutboundOut(.head(HTTPResponseHead(version: .http1_1, status: .continue))), promise: nil)
        }
    }

    private func append(_ bytes: ByteBuffer, _ context: ChannelHandlerContext) {
        guard case .receiving(_, _, let bytesMax) = phase else { return }
        let count = bytes.readableBytes
        guard body.count + count <= bytesMax else {
            return refuse(service.failure(status: 413, tooLarge(bytesMax)), context)
        }
        guard budget.take(count) else {
            return refuse(service.failure(status: 503, "The gateway holds too many bytes of requests; try again."), context)
        }
        bytesTaken += count
        body.append(contentsOf: bytes.readableBytesView)
    }

    private func tooLarge(_ bytesMax: Int) -> String { "Request must be smaller than \(bytesMax) bytes for this operation" }

    private func complete(_ context: ChannelHandlerContext) {
        switch phase {
        case .receiving(let head, var request, _):
            request.body = body
            body = []
            deadline = .distantFuture
            answer(request, isKeptAlive: head.isKeepAlive, context)
        case .discarding: context.close(promise: nil)
        case .idle, .answering: break
        }
    }

    private func answer(_ request: GatewayRequest, isKeptAlive: Bool, _ context: ChannelHandlerContext) {
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        let loop = context.eventLoop
        let service = service
        let task = Task {
            let response = await service.respond(request)
            loop.execute {
                let (handler, context) = bound.value
                handler.finish(response, context)
            }
        }
        phase = .answering(task, isKeptAlive: isKeptAlive, isHead: request.method == .HEAD)
    }

    private func finish(_ response: GatewayResponse, _ context: ChannelHandlerContext) {
        guard case .answering(_, let isKeptAlive, let isHead) = phase, context.channel.isActive else { return releaseBody() }
        releaseBody()
        if let number { drain.note(number, isIdle: true) }
        let stays = isKeptAlive && !drain.isDraining
        // The next request may come while this answer is written: the pipeline's handler had held it back.
        phase = .idle
        deadline = .now() + .seconds(Int64(limits.transferSeconds))
        let bound = NIOLoopBound((self, context), eventLoop: context.eventLoop)
        write(response, stays: stays, isHead: isHead, context).whenComplete { result in
            let (handler, context) = bound.value
            guard case .success = result, stays else { return context.close(promise: nil) }
            if case .idle = handler.phase { handler.deadline = .now() + .seconds(Int64(handler.limits.idleSeconds)) }
        }
    }

    /// Answers before the request is whole, and closes when its rest has been thrown away or the time is over.
    private func refuse(_ response: GatewayResponse, _ context: ChannelHandlerContext) {
        releaseBody()
        phase = .discarding
        // Nothing of it is wanted any more: it may be closed for another.
        if let number { drain.note(number, isIdle: true) }
        deadline = .now() + .seconds(Int64(min(5, limits.transferSeconds)))
        write(response, stays: false, context).whenFailure { [channel = context.channel] _ in channel.close(promise: nil) }
    }

    private func write(
        _ response: GatewayResponse, stays: Bool, isHead: Bool = false, _ context: ChannelHandlerContext
    ) -> EventLoopFuture<Void> {
        var head = HTTPResponseHead(
            version: .http1_1, status: HTTPResponseStatus(statusCode: response.status), headers: response.headers)
        if response.status != 204 { head.headers.replaceOrAdd(name: "Content-Length", value: "\(response.body.count)") }
        if !stays { head.headers.replaceOrAdd(name: "Connection", value: "close") }
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        if !response.body.isEmpty, response.status != 204, !isHead {
            context.write(wrapOutboundOut(.body(.byteBuffer(context.channel.allocator.buffer(bytes: response.body)))), promise: nil)
        }
        let promise = context.eventLoop.makePromise(of: Void.self)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: promise)
        return promise.futureResult
    }

    private func releaseBody() {
        body = []
        budget.give(bytesTaken)
        bytesTaken = 0
    }

    private func checkTime(_ context: ChannelHandlerContext) {
        guard NIODeadline.now() >= deadline else { return }
        deadline = .distantFuture
        if case .receiving = phase {
            refuse(service.failure(status: 408, "The request did not arrive within \(limits.transferSeconds) s."), context)
        } else {
            context.close(promise: nil)
        }
    }
}
