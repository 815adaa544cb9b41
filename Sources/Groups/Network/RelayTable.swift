internal import CLinux
internal import Linux
import Synchronization

/// The relays of one loop; keeps each alive until it ends.
final class RelayTable: Sendable {
    private let loop: EventLoop
    private let relays = Mutex<[ObjectIdentifier: Relay]>([:])
    private let buffer = RelayBuffer()

    init(loop: EventLoop) { self.loop = loop }

    var count: Int { relays.withLock { $0.count } }

    /// Joins two sockets; called on the loop's thread.
    func start(client: SharedDescriptor, guest: SharedDescriptor, isConnecting: Bool) {
        let relay = Relay(client: client, guest: guest, isConnecting: isConnecting, loop: loop, buffer: buffer) { [weak self] relay in
            self?.relays.withLock { _ = $0.removeValue(forKey: ObjectIdentifier(relay)) }
        }
        relays.withLock { $0[ObjectIdentifier(relay)] = relay }
        relay.start()
    }

    func removeAll() {
        let all = relays.withLock { table in
            let all = Array(table.values)
            table = [:]
            return all
        }
        for relay in all { relay.end(reset: true) }
    }

    /// Tells a client that nobody answers, the way a kernel does.
    static func refuse(_ client: SharedDescriptor) { _ = clinux_socket_reset_on_close(client.rawValue) }
}

/// One buffer for all relays of a loop: data is read into it and written out at once, only what does not fit is kept.
///
/// `@unchecked Sendable`: touched on the loop's thread alone.
final class RelayBuffer: @unchecked Sendable {
    static let bytes = 128 << 10
    let pointer = UnsafeMutableRawPointer.allocate(byteCount: RelayBuffer.bytes, alignment: 4096)
    deinit { pointer.deallocate() }
}
