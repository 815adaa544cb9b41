/// A UNIX socket.
public struct UnixSocketObject: MessageBody, Equatable, Sendable {
    /// Types of UNIX sockets, with their number in `<sys/socket.h>`.
    public enum Kind: UInt8, Sendable, CaseIterable {
        case stream = 1
        case datagram = 2
        case sequentialPacket = 5
    }

    /// States of a UNIX socket.
    public enum State: UInt8, Sendable, CaseIterable {
        case unconnected = 1
        case connecting = 2
        case connected = 3
        case disconnecting = 4
        case listening = 5
    }

    /// The socket's inode number.
    public var inode: UInt64 = 0
    /// The type.
    public var type: Kind = .stream
    /// The state.
    public var state: State = .unconnected
    /// The path it is bound to; an abstract name starts with `@`.
    public var path: Text = Text()
    /// The inode number of the connected socket; zero when there is none or the kernel does not tell.
    public var peerInode: UInt64 = 0
    /// Bytes that wait to be read; for a listening socket, connections that wait to be accepted.
    public var receiveQueue: UInt32 = 0
    /// Bytes sent and not read yet; for a listening socket, the longest queue.
    public var sendQueue: UInt32 = 0

    /// An empty value, filled field by field.
    public init() {}

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        writer.write(inode)
        writer.write(type.rawValue)
        writer.write(state.rawValue)
        writer.write(path)
        writer.write(peerInode)
        writer.write(receiveQueue)
        writer.write(sendQueue)
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        inode = try reader.read()
        type = try reader.readCase()
        state = try reader.readCase()
        path = try reader.readText()
        peerInode = try reader.read()
        receiveQueue = try reader.read()
        sendQueue = try reader.read()
    }
}

/// A TCP or UDP socket.
public struct InternetSocketObject: MessageBody, Equatable, Sendable {
    /// Transport protocols.
    public enum Transport: UInt8, Sendable, CaseIterable {
        case tcp = 1
        case tcp6 = 2
        case udp = 3
        case udp6 = 4
    }

    /// States of a connection, with their number in the kernel.
    public enum State: UInt8, Sendable, CaseIterable {
        case established = 1
        case synSent = 2
        case synReceived = 3
        case finWait1 = 4
        case finWait2 = 5
        case timeWait = 6
        case closed = 7
        case closeWait = 8
        case lastAck = 9
        case listening = 10
        case closing = 11
        case newSynReceived = 12
    }

    /// The socket's inode number; zero when no process holds it any more.
    public var inode: UInt64 = 0
    /// The protocol.
    public var transport: Transport = .tcp
    /// The state of the connection.
    public var state: State = .established
    /// The own address, `127.0.0.1` or `::1`.
    public var localAddress: Text = Text()
    /// The own port.
    public var localPort: UInt16 = 0
    /// The other side's address.
    public var remoteAddress: Text = Text()
    /// The other side's port, zero when not connected.
    public var remotePort: UInt16 = 0
    /// Bytes that wait to be read.
    public var receiveQueue: UInt32 = 0
    /// Bytes sent and not acknowledged yet.
    public var sendQueue: UInt32 = 0
    /// The owner.
    public var user: UInt32 = 0

    /// An empty value, filled field by field.
    public init() {}

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        writer.write(inode)
        writer.write(transport.rawValue)
        writer.write(state.rawValue)
        writer.write(localAddress)
        writer.write(localPort)
        writer.write(remoteAddress)
        writer.write(remotePort)
        writer.write(receiveQueue)
        writer.write(sendQueue)
        writer.write(user)
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        inode = try reader.read()
        transport = try reader.readCase()
        state = try reader.readCase()
        localAddress = try reader.readText()
        localPort = try reader.read()
        remoteAddress = try reader.readText()
        remotePort = try reader.read()
        receiveQueue = try reader.read()
        sendQueue = try reader.read()
        user = try reader.read()
    }
}

#if !hasFeature(Embedded)
    extension UnixSocketObject: Codable {}
    extension UnixSocketObject.Kind: NamedCase {}
    extension UnixSocketObject.State: NamedCase {}
    extension InternetSocketObject: Codable {}
    extension InternetSocketObject.Transport: NamedCase {}
    extension InternetSocketObject.State: NamedCase {}
#endif
