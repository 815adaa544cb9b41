internal import CLinux
public import Linux

/// Opens streams to vsock ports of a guest through its group's `vsock.sock` (Firecracker's convention).
public enum VsockConnector {
    /// The longest answer: `OK 4294967295` and a line end, with room to spare.
    private static let answerBytesMax = 32

    /// Connects to a port of the guest; the descriptor blocks, and no step takes longer than the time-out.
    ///
    /// - Throws: `GroupError`: `.notRunning` when the group has no VMM, `.guest` when nobody listens on the port.
    public static func connect(_ path: String, port: UInt32, timeoutMilliseconds: Int32) throws(GroupError) -> OwnedDescriptor {
        do {
            let socket = try Socket.connect(unix: path)
            let number = socket.rawValue
            try systemCall("limit waiting on", path) { clinux_socket_timeouts(number, timeoutMilliseconds) }
            try DescriptorIO.writeAll(Array("CONNECT \(port)\n".utf8), to: number, what: path)
            // One byte at a time: what follows the line already belongs to the stream.
            var answer: [UInt8] = []
            var byte: [UInt8] = [0]
            while answer.last != UInt8(ascii: "\n") {
                guard answer.count < answerBytesMax, try DescriptorIO.read(number, into: &byte, what: path) == 1 else {
                    throw GroupError(.guest, "Nobody listens on vsock port \(port) of the guest")
                }
                answer.append(byte[0])
            }
            guard answer.starts(with: Array("OK ".utf8)) else { throw GroupError(.host, "Strange answer of \(path)") }
            return socket
        } catch let error as SystemError {
            let isGone = [.noEntry, .connectionRefused].contains(error.errno)
            throw GroupError(isGone ? .notRunning : .guest, "\(error)")
        } catch let error as GroupError {
            throw error
        } catch {
            throw GroupError(.host, "\(error)")
        }
    }
}
