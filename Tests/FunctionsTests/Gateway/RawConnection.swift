import CLinux
import Foundation
import Linux

/// A TCP connection to this host for bytes of any kind.
final class RawConnection: Sendable {
    private let socket: SharedDescriptor

    init(port: Int) throws {
        socket = SharedDescriptor(try Socket.beginConnecting(address: 0x7f00_0001, port: UInt16(port)))
        try Socket.setNonBlocking(socket.rawValue, false)
        // Waits for the connection.
        var poll = pollfd(fd: socket.rawValue, events: Int16(POLLOUT), revents: 0)
        _ = Glibc.poll(&poll, 1, 10_000)
        _ = clinux_socket_timeouts(socket.rawValue, 20_000)
    }

    /// Writes what the peer takes; false when it has gone.
    @discardableResult
    func write(_ bytes: [UInt8]) -> Bool {
        var start = 0
        while start < bytes.count {
            let count = bytes.withUnsafeBytes {
                send(socket.rawValue, $0.baseAddress.map { $0 + start }, bytes.count - start, Int32(MSG_NOSIGNAL))
            }
            guard count > 0 else { return false }
            start += count
        }
        return true
    }

    /// Reads until the peer closes, or until there is what is waited for.
    func read(until isEnough: ([UInt8]) -> Bool = { _ in false }) -> [UInt8] {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while !isEnough(bytes) {
            let count = clinux_read(socket.rawValue, &chunk, chunk.count)
            guard count > 0 else { break }
            bytes += chunk[..<Int(count)]
        }
        return bytes
    }

    /// Sends bytes and reads all that comes back, on a thread of its own.
    static func exchange(_ bytes: [UInt8], port: Int) async throws -> [UInt8] {
        try await withCheckedThrowingContinuation { continuation in
            Thread.detachNewThread {
                do {
                    let connection = try RawConnection(port: port)
                    connection.write(bytes)
                    continuation.resume(returning: connection.read())
                } catch {
                    continuation.resume(throwing: error)
                }
            }
        }
    }
}
