public import AgentProtocol

/// A descriptor of a process.
public struct DescriptorReference: Hashable, Codable, Sendable {
    /// The process.
    public let process: Int32
    /// The descriptor's number.
    public let descriptor: Int32
}

/// Answers who holds the other end of a pipe, socket or terminal of an object report.
public struct PeerIndex: Sendable {
    private struct Endpoint: Hashable {
        let transport: InternetSocketObject.Transport
        let local: Text
        let localPort: UInt16
        let remote: Text
        let remotePort: UInt16
    }

    private var holders: [UInt64: [DescriptorObject]] = [:]
    private var terminals: [UInt32: [DescriptorObject]] = [:]
    private var unixSockets: [UInt64: UnixSocketObject] = [:]
    private var internetSockets: [UInt64: InternetSocketObject] = [:]
    private var connections: [Endpoint: UInt64] = [:]

    /// Sorts a report's objects by what joins them.
    public init(_ report: ObjectReport) {
        for object in report.descriptors {
            switch object.kind {
            case .pipe, .namedPipe, .socket: holders[object.inode, default: []].append(object)
            case .terminal, .terminalMaster:
                if case .terminal(let number) = object.detail { terminals[number, default: []].append(object) }
            default: break
            }
        }
        for socket in report.unixSockets { unixSockets[socket.inode] = socket }
        for socket in report.internetSockets where socket.inode != 0 {
            internetSockets[socket.inode] = socket
            connections[PeerIndex.endpoint(socket)] = socket.inode
        }
    }

    /// The UNIX socket behind a descriptor, or nil.
    public func unixSocket(of object: DescriptorObject) -> UnixSocketObject? {
        object.kind == .socket ? unixSockets[object.inode] : nil
    }

    /// The TCP or UDP socket behind a descriptor, or nil.
    public func internetSocket(of object: DescriptorObject) -> InternetSocketObject? {
        object.kind == .socket ? internetSockets[object.inode] : nil
    }

    /// Who holds the other end: the writers of a pipe for its reader and the other way round, the connected socket, the other side of a
    /// terminal.
    ///
    /// Empty when nobody in the guest does, or when the kernel does not tell.
    public func peers(of object: DescriptorObject) -> [DescriptorReference] {
        let found: [DescriptorObject]
        switch object.kind {
        case .pipe, .namedPipe:
            found = (holders[object.inode] ?? []).filter { object.isReadable ? $0.isWritable : $0.isReadable }
        case .terminal, .terminalMaster:
            guard case .terminal(let number) = object.detail else { return [] }
            found = (terminals[number] ?? []).filter { $0.kind != object.kind }
        case .socket:
            guard let inode = peerInode(of: object) else { return [] }
            found = holders[inode] ?? []
        default: return []
        }
        return found.map { DescriptorReference(process: $0.process, descriptor: $0.number) }
    }

    private func peerInode(of object: DescriptorObject) -> UInt64? {
        if let socket = unixSocket(of: object) { return socket.peerInode == 0 ? nil : socket.peerInode }
        guard let socket = internetSocket(of: object), socket.remotePort != 0 else { return nil }
        return connections[
            Endpoint(
                transport: socket.transport, local: socket.remoteAddress, localPort: socket.remotePort, remote: socket.localAddress,
                remotePort: socket.localPort)]
    }

    private static func endpoint(_ socket: InternetSocketObject) -> Endpoint {
        Endpoint(
            transport: socket.transport, local: socket.localAddress, localPort: socket.localPort, remote: socket.remoteAddress,
            remotePort: socket.remotePort)
    }
}
