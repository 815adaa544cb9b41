/// `configure`: the guest's identity and network.
///
/// Absent parts are left as they are.
public struct ConfigureRequest: MessageBody, Equatable, Sendable {
    /// The address of a guest's network interface (IPv4).
    public struct Network: Equatable, Sendable {
        /// The interface, for example `eth0`.
        public var interface: Text
        /// The four bytes of the address, first byte in the low bits (network order in memory).
        public var address: UInt32
        /// The length of the network prefix in bits, 0 to 32.
        public var prefixLength: UInt8
        /// The default gateway, in the form of `address`; zero for none.
        public var gateway: UInt32

        /// Describes an interface.
        public init(interface: Text, address: UInt32, prefixLength: UInt8, gateway: UInt32) {
            self.interface = interface
            self.address = address
            self.prefixLength = prefixLength
            self.gateway = gateway
        }
    }

    /// The host name; empty to keep it.
    public var hostname: Text
    /// The interface to set up; nil for none.
    public var network: Network?
    /// Addresses of name servers in text form, written to `/etc/resolv.conf`; empty to keep the file.
    public var resolvers: [Text]
    /// Whole lines for `/etc/hosts` after the ones for localhost and the host name.
    public var hosts: [Text]
    /// Wall-clock time in nanoseconds since 1970; zero to keep the clock.
    public var wallClockNanoseconds: UInt64

    /// Describes a configuration.
    public init(
        hostname: Text = Text(), network: Network? = nil, resolvers: [Text] = [], hosts: [Text] = [], wallClockNanoseconds: UInt64 = 0
    ) {
        self.hostname = hostname
        self.network = network
        self.resolvers = resolvers
        self.hosts = hosts
        self.wallClockNanoseconds = wallClockNanoseconds
    }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        writer.write(hostname)
        writer.write(network != nil)
        if let network {
            writer.write(network.interface)
            writer.write(network.address)
            writer.write(network.prefixLength)
            writer.write(network.gateway)
        }
        writer.write(resolvers) { $0.write($1) }
        writer.write(hosts) { $0.write($1) }
        writer.write(wallClockNanoseconds)
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        hostname = try reader.readText()
        if try reader.readBool() {
            network = Network(
                interface: try reader.readText(), address: try reader.read(), prefixLength: try reader.read(), gateway: try reader.read())
            if let network, network.prefixLength > 32 || network.interface.bytes.count > 15 || network.interface.isEmpty {
                throw ProtocolFault(.badValue, at: reader.offset)
            }
        }
        resolvers = try reader.readList { (reader: inout ByteReader) throws(ProtocolFault) in try reader.readText() }
        hosts = try reader.readList { (reader: inout ByteReader) throws(ProtocolFault) in try reader.readText() }
        wallClockNanoseconds = try reader.read()
    }
}

/// `mount`: mount a file system in the guest; the mount point is created when it does not exist.
public struct MountRequest: MessageBody, Equatable, Sendable {
    /// The device, for example `/dev/vdb`; a directory or file when the file system's type is empty.
    public var device: Text
    /// The absolute path to mount on.
    public var path: Text
    /// The file system's type, for example `ext4`; empty: what `device` names is there a second time.
    public var fileSystem: Text
    /// Whether writing is refused.
    public var readOnly: Bool

    /// Describes a mount.
    public init(device: Text, path: Text, fileSystem: Text, readOnly: Bool = false) {
        self.device = device
        self.path = path
        self.fileSystem = fileSystem
        self.readOnly = readOnly
    }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        writer.write(device)
        writer.write(path)
        writer.write(fileSystem)
        writer.write(readOnly)
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        device = try reader.readText()
        path = try reader.readText()
        fileSystem = try reader.readText()
        readOnly = try reader.readBool()
        guard path.hasPrefix("/"), !path.bytes.contains(0), !device.bytes.contains(0), !fileSystem.bytes.contains(0) else {
            throw ProtocolFault(.badValue, at: 0)
        }
    }
}

/// `setClock`: set the guest's wall clock, after a restore.
public struct ClockRequest: MessageBody, Equatable, Sendable {
    /// Nanoseconds since 1970.
    public var wallClockNanoseconds: UInt64

    /// Describes a time.
    public init(wallClockNanoseconds: UInt64) { self.wallClockNanoseconds = wallClockNanoseconds }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) { writer.write(wallClockNanoseconds) }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        wallClockNanoseconds = try reader.read()
        guard wallClockNanoseconds <= UInt64(Int64.max) else { throw ProtocolFault(.badValue, at: 0) }
    }
}

/// `reseed`: mix new entropy into the guest kernel's random number generator and reseed it at once.
public struct ReseedRequest: MessageBody, Equatable, Sendable {
    /// The most bytes of entropy in one request.
    public static let entropyBytesMax = 512
    /// Random bytes from the host.
    public var entropy: Text

    /// Carries random bytes.
    public init(entropy: [UInt8]) { self.entropy = Text(entropy) }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) { writer.write(entropy) }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        entropy = try reader.readText()
        guard (1...ReseedRequest.entropyBytesMax).contains(entropy.bytes.count) else { throw ProtocolFault(.badValue, at: 0) }
    }
}

/// `proxy`: connect to a TCP port on the guest's loopback; after `done` the connection carries raw bytes.
public struct ProxyRequest: MessageBody, Equatable, Sendable {
    /// The port, not zero.
    public var port: UInt16

    /// Names a port.
    public init(port: UInt16) { self.port = port }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) { writer.write(port) }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        port = try reader.read()
        guard port != 0 else { throw ProtocolFault(.badValue, at: 0) }
    }
}

/// `shutdown`: end all processes, write everything to the disks and stop the machine.
public struct ShutdownRequest: MessageBody, Equatable, Sendable {
    /// What comes after the disks are clean.
    public enum Action: UInt8, Sendable {
        case powerOff = 0
        case reboot = 1
    }

    /// What comes after the disks are clean.
    public var action: Action
    /// Milliseconds between SIGTERM and SIGKILL.
    public var graceMilliseconds: UInt32

    /// Describes a shutdown.
    public init(action: Action = .powerOff, graceMilliseconds: UInt32) {
        self.action = action
        self.graceMilliseconds = graceMilliseconds
    }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        writer.write(action.rawValue)
        writer.write(graceMilliseconds)
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        action = try reader.readCase()
        graceMilliseconds = try reader.read()
    }
}

/// `objects`: ask for a report on the guest's POSIX objects.
public struct ObjectsRequest: MessageBody, Equatable, Sendable {
    /// Only the processes, without descriptors and the rest.
    public static let processes: UInt32 = 1
    /// Descriptors and the sockets behind them.
    public static let descriptors: UInt32 = 2
    /// Mappings, summarized by file.
    public static let mappings: UInt32 = 4
    /// SysV and POSIX shared memory, semaphores and message queues.
    public static let interprocess: UInt32 = 8
    /// All of the above.
    public static let everything: UInt32 = 15

    /// The wanted sections, a sum of the constants of this type.
    public var sections: UInt32

    /// Asks for sections.
    public init(sections: UInt32 = ObjectsRequest.everything) { self.sections = sections }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) { writer.write(sections) }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        sections = try reader.read()
        guard sections & ~ObjectsRequest.everything == 0 else { throw ProtocolFault(.badValue, at: 0) }
    }
}
