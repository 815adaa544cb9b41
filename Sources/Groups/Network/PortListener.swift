internal import CLinux
internal import Linux

/// The listener of a published port, in the host's network namespace.
public struct PortListener: Sendable {
    /// The mapping, with the port the kernel chose.
    public let mapping: PortMapping
    let socket: SharedDescriptor

    /// Listens on the host's port.
    ///
    /// - Throws: `GroupError` (`.host`) that says what to do when the port is taken or not permitted.
    public init(_ mapping: PortMapping) throws(GroupError) {
        guard let address = mapping.hostAddressNumber else {
            throw GroupError(.invalidValue, "Invalid address \"\(mapping.hostAddress)\"")
        }
        do throws(SystemError) {
            socket = SharedDescriptor(try Socket.listen(address: address, port: mapping.hostPort))
            try Socket.setNonBlocking(socket.rawValue)
        } catch {
            let remedy =
                switch error.errno.rawValue {
                case EADDRINUSE: "Another program uses the port; choose another host port with -p HOST:GUEST, or 0 for a free one."
                case EACCES: "Ports below 1024 need root; choose a higher host port with -p HOST:GUEST."
                case EADDRNOTAVAIL: "This host has no such address; see: ip address."
                default: "Choose another host port with -p HOST:GUEST."
                }
            throw GroupError(.host, "\(error)", remedy: remedy)
        }
        var mapping = mapping
        mapping.hostPort = Socket.port(of: socket.rawValue) ?? mapping.hostPort
        self.mapping = mapping
    }
}
