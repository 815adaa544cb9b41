internal import CLinux
internal import Linux

/// A TCP connection that this side has no more and the other may have: a guest that was put back to when it was open, for example.
///
/// Telling the other side by a reset alone does not do: it is only believed with the sequence number that is expected there, which a
/// guest that was put back has of another time. So the kernel's own way of finding out is used (RFC 9293, 3.5.1, half-open connections):
/// to the beginning of a connection with the same ports the other side answers what it expects, and our kernel, which knows nothing of
/// it, answers that with a reset that fits.
struct HalfOpenConnection: Hashable, Sendable {
    /// Our port.
    let localPort: UInt16
    /// The other side.
    let address: UInt32
    let port: UInt16

    /// What a connected socket is joined to; nil when it is not one of TCP over IPv4.
    init?(of socket: Int32) {
        var peer: UInt32 = 0
        guard let port = UInt16(exactly: clinux_inet_peer(socket, &peer)), port > 0, let localPort = Socket.port(of: socket) else {
            return nil
        }
        self.localPort = localPort
        address = peer
        self.port = port
    }

    /// Makes the other side find out.
    ///
    /// Whoever uses the port for a new connection by now has done the same with it.
    func probe() {
        // Closed at once: what is answered to it finds no socket. Where the other side had gone already and listens, this is a new
        // connection (on one host before the call returns): that ends by a reset, too, as nobody asked for it.
        guard let socket = try? Socket.beginConnecting(address: address, port: port, from: localPort) else { return }
        _ = clinux_socket_reset_on_close(socket.rawValue)
    }

    /// Beginnings at once: a TAP device queues 500 packets.
    private static let batch = 64
    private static let batchMicroseconds: UInt32 = 10_000
    /// After so long it is tried once more: the kernel answers what it did not expect on a connection only every half second.
    private static let repetitionMicroseconds: UInt32 = 600_000

    /// Makes the other sides of many connections find out, on a thread of its own.
    static func probe(_ connections: [HalfOpenConnection]) {
        guard !connections.isEmpty else { return }
        // Without a thread they find out when they send something.
        try? DetachedThread.start("half-open") {
            for round in 0..<2 {
                if round > 0 { usleep(repetitionMicroseconds) }
                for (index, connection) in connections.enumerated() {
                    if index > 0, index % batch == 0 { usleep(batchMicroseconds) }
                    connection.probe()
                }
            }
        }
    }
}
