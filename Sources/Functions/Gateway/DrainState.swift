internal import NIOCore
internal import Synchronization

/// The open connections, and whether the gateway is ending.
final class DrainState: Sendable {
    private struct State {
        var channels: [ObjectIdentifier: any Channel] = [:]
        var isDraining = false
    }
    private let state = Mutex(State())

    /// Whether connections are closed after their next answer.
    var isDraining: Bool { state.withLock { $0.isDraining } }
    /// Connections open now.
    var connections: Int { state.withLock { $0.channels.count } }

    func add(_ channel: any Channel) { state.withLock { $0.channels[ObjectIdentifier(channel)] = channel } }
    func remove(_ channel: any Channel) { state.withLock { _ = $0.channels.removeValue(forKey: ObjectIdentifier(channel)) } }

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
            return Array($0.channels.values)
        }
    }
}
