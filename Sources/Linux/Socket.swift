internal import CLinux

/// Stream sockets: made, connected and listened on, with errors that name the address.
public enum Socket {
    /// How many connections wait for `accept`.
    static let backlog: Int32 = 128

    /// Listens on a path that its owner alone may connect to, whatever its directory lets others do.
    ///
    /// - Throws: `SystemError` with the path.
    public static func listen(unix path: String) throws(SystemError) -> OwnedDescriptor {
        let socket = try make(AF_UNIX)
        let number = socket.rawValue
        // The permissions of the socket become those of its path.
        try systemCall("close to others", path) { clinux_fchmod(number, 0o600) }
        _ = clinux_unlink(path)
        try withShortPath(path, "listen on") { clinux_unix_bind(number, $0) }
        try systemCall("listen on", path) { clinux_listen(number, backlog) }
        return socket
    }

    /// Connects to a path, waiting for it.
    ///
    /// - Throws: `SystemError` with the path.
    public static func connect(unix path: String) throws(SystemError) -> OwnedDescriptor {
        let socket = try make(AF_UNIX)
        let number = socket.rawValue
        try withShortPath(path, "connect to") { clinux_unix_connect(number, $0) }
        return socket
    }

    /// Listens on a TCP address of the namespace the calling thread is in; the address has the byte order of the host.
    ///
    /// - Throws: `SystemError` with address and port.
    public static func listen(address: UInt32, port: UInt16) throws(SystemError) -> OwnedDescriptor {
        let socket = try make(AF_INET)
        let number = socket.rawValue
        _ = clinux_socket_option(number, SOL_SOCKET, SO_REUSEADDR, 1)
        let name = "\(describe(address)):\(port)"
        try systemCall("listen on", name) { clinux_inet_bind(number, address, port) }
        try systemCall("listen on", name) { clinux_listen(number, backlog) }
        return socket
    }

    /// Begins to connect to a TCP address without waiting; `error(of:)` tells how it went once the socket is writable.
    ///
    /// - Parameter localPort: the port to do it from; nil: one that the kernel chooses.
    /// - Throws: `SystemError` with address and port.
    public static func beginConnecting(
        address: UInt32, port: UInt16, from localPort: UInt16? = nil
    ) throws(SystemError) -> OwnedDescriptor {
        let socket = try make(AF_INET)
        let number = socket.rawValue
        try setNonBlocking(number)
        if let localPort {
            _ = clinux_socket_option(number, SOL_SOCKET, SO_REUSEADDR, 1)
            try systemCall("connect from", "port \(localPort)") { clinux_inet_bind(number, 0, localPort) }
        }
        let result = clinux_inet_connect(number, address, port)
        if result != -Int(EINPROGRESS) { try systemCall("connect to", "\(describe(address)):\(port)") { result } }
        return socket
    }

    /// How a connection attempt ended; nil when it succeeded.
    public static func error(of descriptor: Int32) -> Errno? {
        let result = clinux_socket_error(descriptor)
        return result == 0 ? nil : Errno(rawValue: Int32(truncatingIfNeeded: abs(result)))
    }

    /// The port a listener has, which the kernel chose if it was asked for port 0.
    public static func port(of descriptor: Int32) -> UInt16? {
        UInt16(exactly: clinux_inet_port(descriptor)).flatMap { $0 == 0 ? nil : $0 }
    }

    /// Two connected stream sockets.
    ///
    /// - Throws: `SystemError` when the process has no room for descriptors.
    public static func pair() throws(SystemError) -> (SharedDescriptor, SharedDescriptor) {
        var numbers: [Int32] = [-1, -1]
        try systemCall("create", "a socket pair") { clinux_socketpair(&numbers) }
        return (SharedDescriptor(OwnedDescriptor(adopting: numbers[0])), SharedDescriptor(OwnedDescriptor(adopting: numbers[1])))
    }

    /// Makes reads and writes return at once.
    ///
    /// - Throws: `SystemError` for a number that is not open.
    public static func setNonBlocking(_ descriptor: Int32, _ on: Bool = true) throws(SystemError) {
        let flags = try systemCall("read the flags of", "descriptor \(descriptor)") { clinux_fcntl(descriptor, F_GETFL, 0) }
        let wanted = on ? flags | Int(O_NONBLOCK) : flags & ~Int(O_NONBLOCK)
        try systemCall("set the flags of", "descriptor \(descriptor)") { clinux_fcntl(descriptor, F_SETFL, wanted) }
    }

    private static func make(_ domain: Int32) throws(SystemError) -> OwnedDescriptor {
        OwnedDescriptor(adopting: Int32(try systemCall("create", "a socket") { clinux_socket_stream(domain) }))
    }

    private static func describe(_ address: UInt32) -> String {
        "\(address >> 24).\(address >> 16 & 255).\(address >> 8 & 255).\(address & 255)"
    }

    /// A socket's path may have 107 bytes only; a longer one is reached through its opened directory.
    private static func withShortPath(_ path: String, _ operation: String, _ body: (String) -> Int) throws(SystemError) {
        guard path.utf8.count > 107, let slash = path.lastIndex(of: "/") else {
            try systemCall(operation, path) { body(path) }
            return
        }
        let directory = try OwnedDescriptor.open(String(path[..<slash]), O_PATH | O_DIRECTORY)
        let short = "/proc/self/fd/\(directory.rawValue)\(path[slash...])"
        try systemCall(operation, path) { body(short) }
        _ = directory.rawValue
    }
}
