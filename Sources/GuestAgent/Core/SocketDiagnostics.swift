#if !hasFeature(Embedded)
    public import AgentProtocol
#endif

/// The UNIX half of sock_diag(7): the only way to learn which sockets are connected to each other.
public enum SocketDiagnostics {
    private static let headerBytes = 16
    private static let messageBytes = 16
    private static let doneType: UInt16 = 3
    private static let errorType: UInt16 = 2
    private static let byFamilyType: UInt16 = 20

    /// A request for all UNIX sockets with names, peers and queues: `nlmsghdr` and `unix_diag_req`.
    public static var unixRequest: [UInt8] {
        var writer = ByteWriter()
        writer.write(UInt32(40))
        writer.write(byFamilyType)
        writer.write(UInt16(0x301))  // NLM_F_REQUEST | NLM_F_DUMP
        writer.write(UInt32(1))
        writer.write(UInt32(0))
        writer.write(UInt32(1))  // AF_UNIX, no protocol
        writer.write(UInt32.max)  // all states
        writer.write(UInt32(0))
        writer.write(UInt32(0x15))  // UDIAG_SHOW_NAME | UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN
        writer.write(UInt64(0))
        return writer.bytes
    }

    /// What a datagram from the kernel means for the dump.
    public enum Progress: Equatable, Sendable {
        /// More datagrams follow.
        case more
        /// The dump is complete.
        case done
        /// The kernel refused, usually because `unix_diag` is not loaded; or the datagram is malformed.
        case failed
    }

    /// Takes the sockets out of one datagram.
    public static func parse(_ datagram: [UInt8], into sockets: inout [UnixSocketObject], limit: Int) -> Progress {
        var start = 0
        while start + headerBytes <= datagram.count {
            let length = Int(integer(datagram, start, 4))
            guard length >= headerBytes, start + length <= datagram.count else { return .failed }
            switch UInt16(truncatingIfNeeded: integer(datagram, start + 4, 2)) {
            case doneType: return .done
            case errorType: return .failed
            case byFamilyType:
                guard let socket = parseSocket(datagram, start + headerBytes, start + length) else { return .failed }
                if sockets.count < limit { sockets.append(socket) }
            default: break
            }
            start += (length + 3) & ~3
        }
        return .more
    }

    /// `unix_diag_msg` (family, type, state, inode, cookie) and its attributes.
    private static func parseSocket(_ bytes: [UInt8], _ start: Int, _ end: Int) -> UnixSocketObject? {
        guard end - start >= messageBytes else { return nil }
        var socket = UnixSocketObject()
        socket.type = UnixSocketObject.Kind(rawValue: bytes[start + 1]) ?? .stream
        let state = bytes[start + 2]
        socket.inode = integer(bytes, start + 4, 4)
        var next = start + messageBytes
        while next + 4 <= end {
            let length = Int(integer(bytes, next, 2))
            guard length >= 4, next + length <= end else { return nil }
            let value = bytes[(next + 4)..<(next + length)]
            switch integer(bytes, next + 2, 2) {
            case 0: socket.path = name(value)
            case 2 where value.count >= 4: socket.peerInode = integer(bytes, next + 4, 4)
            case 4 where value.count >= 8:
                socket.receiveQueue = UInt32(truncatingIfNeeded: integer(bytes, next + 4, 4))
                socket.sendQueue = UInt32(truncatingIfNeeded: integer(bytes, next + 8, 4))
            default: break
            }
            next += (length + 3) & ~3
        }
        // The kernel uses TCP's numbers: 10 is listening, 1 established.
        socket.state = state == 10 ? .listening : state == 1 || socket.peerInode != 0 ? .connected : .unconnected
        return socket
    }

    /// A path ends at its first zero byte; an abstract name begins with one and is shown with `@` as in `/proc/net/unix`.
    private static func name(_ value: ArraySlice<UInt8>) -> Text {
        guard value.first == 0 else { return Text(value.prefix { $0 != 0 }) }
        return "@" + Text([UInt8](value.dropFirst().map { $0 == 0 ? UInt8(ascii: "@") : $0 }))
    }

    private static func integer(_ bytes: [UInt8], _ start: Int, _ count: Int) -> UInt64 {
        var value: UInt64 = 0
        for index in 0..<count { value |= UInt64(bytes[start + index]) << UInt64(8 * index) }
        return value
    }
}
