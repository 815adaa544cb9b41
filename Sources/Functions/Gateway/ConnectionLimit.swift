internal import NIOCore
internal import Synchronization

/// Counts open sockets, and stops accepting while there are too many: those that wait stay in the kernel's queue.
///
/// Who is served is up to `ConnectionTable`; this bounds those that are still being closed.
///
/// It is a handler of the listening channel; its `reading` is touched on that channel's event loop only.
final class ConnectionLimit: ChannelDuplexHandler, @unchecked Sendable {
    typealias InboundIn = any Channel
    typealias OutboundIn = Never

    private let connectionsMax: Int
    private let connections = Atomic<Int>(0)
    private var isReadWanted = false

    init(connectionsMax: Int) { self.connectionsMax = connectionsMax }

    /// Connections open now.
    var count: Int { connections.load(ordering: .relaxed) }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let child = unwrapInboundIn(data)
        connections.wrappingAdd(1, ordering: .relaxed)
        let listener = NIOLoopBound(context, eventLoop: context.eventLoop)
        child.closeFuture.hop(to: context.eventLoop).whenComplete { _ in
            self.connections.wrappingSubtract(1, ordering: .relaxed)
            guard self.isReadWanted else { return }
            self.isReadWanted = false
            listener.value.read()
        }
        context.fireChannelRead(data)
    }

    func read(context: ChannelHandlerContext) {
        if count < connectionsMax { context.read() } else { isReadWanted = true }
    }

    /// Running out of descriptors is no reason to stop listening: it is tried again when a connection was closed.
    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard error is IOError else { return context.fireErrorCaught(error) }
        isReadWanted = true
        let listener = NIOLoopBound(context, eventLoop: context.eventLoop)
        context.eventLoop.scheduleTask(in: .milliseconds(100)) {
            guard self.isReadWanted else { return }
            self.isReadWanted = false
            listener.value.read()
        }
    }
}
