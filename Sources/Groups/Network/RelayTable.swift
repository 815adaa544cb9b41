internal import CLinux
internal import Linux
import Synchronization

/// The relays of one loop; keeps each alive until it ends.
final class RelayTable: Sendable {
    private let loop: EventLoop
    private struct State {
        var relays: [ObjectIdentifier: Relay] = [:]
        /// Those of them whose client may get something yet.
        var answering: Set<ObjectIdentifier> = []
    }
    private let state = Mutex(State())
    private let buffer = RelayBuffer()

    init(loop: EventLoop) { self.loop = loop }

    var count: Int { state.withLock { $0.relays.count } }
    /// Connections whose guest's side has not ended, or has and the client has not taken all of it.
    var answeringCount: Int { state.withLock { $0.answering.count } }
    /// Bytes that clients have taken, over all connections that ever were.
    var answeredBytes: UInt64 { buffer.answeredBytes.load(ordering: .relaxed) }

    /// Joins two sockets; called on the loop's thread.
    func start(client: SharedDescriptor, guest: SharedDescriptor, isConnecting: Bool) {
        let relay = Relay(client: client, guest: guest, isConnecting: isConnecting, loop: loop, buffer: buffer) {
            [weak self] relay, isOver in
            self?.state.withLock { state in
                state.answering.remove(ObjectIdentifier(relay))
                if isOver { state.relays.removeValue(forKey: ObjectIdentifier(relay)) }
            }
        }
        state.withLock { state in
            state.relays[ObjectIdentifier(relay)] = relay
            state.answering.insert(ObjectIdentifier(relay))
        }
        relay.start()
    }

    /// Cuts all connections; called on the loop's thread, or while none of its handlers runs.
    ///
    /// - Returns: those to the guest, of which it may know yet.
    @discardableResult
    func removeAll() -> [HalfOpenConnection] {
        let all = state.withLock { state in
            defer { state = State() }
            return Array(state.relays.values)
        }
        let connections = all.compactMap(\.guestConnection)
        for relay in all { relay.cut() }
        return connections
    }

    /// Tells a client that nobody answers, the way a kernel does.
    static func refuse(_ client: SharedDescriptor) { _ = clinux_socket_reset_on_close(client.rawValue) }
}

/// One buffer for all relays of a loop: data is read into it and written out at once, only what does not fit is kept.
///
/// `@unchecked Sendable`: touched on the loop's thread alone.
final class RelayBuffer: @unchecked Sendable {
    static let bytes = 128 << 10
    let answeredBytes = Atomic<UInt64>(0)
    let pointer = UnsafeMutableRawPointer.allocate(byteCount: RelayBuffer.bytes, alignment: 4096)
    deinit { pointer.deallocate() }
}
