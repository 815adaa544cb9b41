internal import NIOCore
internal import Synchronization

/// The open connections, and whether the gateway is ending.
final class DrainState: Sendable {
    private struct State {
        var table: ConnectionTable<any Channel>
        var isDraining = false
    }
    private let state: Mutex<State>

    init(limits: GatewayLimits) { state = Mutex(State(table: ConnectionTable(limits: limits))) }

    /// Whether connections are closed after their next answer.
    var isDraining: Bool { state.withLock { $0.isDraining } }
    /// Connections open now.
    var connections: Int { state.withLock { $0.table.count } }

    /// Takes a connection in, closing an idle one when there are too many; nil when it cannot be served.
    func add(_ channel: any Channel) -> UInt64? {
        let address = channel.remoteAddress?.ipAddress ?? ""
        let isLoopback = GatewayConfiguration.isLoopback(address)
        // All of 127.0.0.0/8 is one host, which could have each of its addresses.
        let name = isLoopback ? "loopback" : address
        let (number, admission) = state.withLock { $0.table.add(channel, from: name, isLoopback: isLoopback) }
        guard case .taken(let instead) = admission else { return nil }
        instead?.close(promise: nil)
        return number
    }

    /// A connection's request has begun, or is over.
    func note(_ number: UInt64, isIdle: Bool) { state.withLock { $0.table.note(number, isIdle: isIdle) } }
    /// A connection is closed.
    func remove(_ number: UInt64) { state.withLock { $0.table.remove(number) } }

    /// From now on connections end: idle ones at once, others after their answer.
    func begin() {
        for channel in mark() { channel.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent()) }
    }

    /// Ends what is left.
    func closeAll() {
        for channel in mark() { channel.close(promise: nil) }
    }

    private func mark() -> [any Channel] {
        state.withLock {
            $0.isDraining = true
            return $0.table.all
        }
    }
}
