/// `hello`, the first frame a client sends: the versions it speaks.
public struct Hello: MessageBody, Equatable, Sendable {
    /// The oldest version the client speaks.
    public var oldestVersion: UInt16
    /// The newest version the client speaks.
    public var newestVersion: UInt16

    /// Describes the range of versions; this source's own by default.
    public init(oldestVersion: UInt16 = agentProtocolVersion, newestVersion: UInt16 = agentProtocolVersion) {
        self.oldestVersion = oldestVersion
        self.newestVersion = newestVersion
    }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        writer.write(oldestVersion)
        writer.write(newestVersion)
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        oldestVersion = try reader.read()
        newestVersion = try reader.read()
        guard oldestVersion <= newestVersion else { throw ProtocolFault(.badValue, at: 0) }
    }
}

/// `welcome`, the agent's answer to `hello`.
public struct Welcome: MessageBody, Equatable, Sendable {
    /// The version both sides use from now on.
    public var version: UInt16
    /// Nanoseconds of `CLOCK_BOOTTIME` in the guest.
    public var uptimeNanoseconds: UInt64
    /// The guest kernel's release, as `uname -r` prints it.
    public var kernelRelease: Text
    /// What went wrong while the guest started, one line each; empty when all is well.
    public var bootFailures: [Text]

    /// Describes the agent.
    public init(version: UInt16, uptimeNanoseconds: UInt64, kernelRelease: Text, bootFailures: [Text] = []) {
        self.version = version
        self.uptimeNanoseconds = uptimeNanoseconds
        self.kernelRelease = kernelRelease
        self.bootFailures = bootFailures
    }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        writer.write(version)
        writer.write(uptimeNanoseconds)
        writer.write(kernelRelease)
        writer.write(bootFailures) { $0.write($1) }
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        version = try reader.read()
        uptimeNanoseconds = try reader.read()
        kernelRelease = try reader.readText()
        bootFailures = try reader.readList { (reader: inout ByteReader) throws(ProtocolFault) in try reader.readText() }
    }
}

/// `failed`: a request could not be carried out.
public struct Failure: MessageBody, Error, Equatable, Sendable {
    /// The kind of failure, so that a caller can act on it.
    public enum Code: UInt8, Sendable {
        /// A system call failed; `errno` says why.
        case system = 1
        /// The command was not found: exit code 127.
        case commandNotFound = 2
        /// The command cannot be executed: exit code 126.
        case notExecutable = 3
        /// The user or group is not known in the guest.
        case unknownUser = 4
        /// The working directory cannot be entered.
        case badDirectory = 5
        /// There is no such session.
        case noSession = 6
        /// The request is malformed, or not allowed at this point.
        case protocolFault = 7
        /// A limit of the agent is reached.
        case limit = 8
        /// No protocol version is spoken by both sides.
        case versionMismatch = 9
    }

    /// The kind of failure.
    public var code: Code
    /// The guest kernel's error number, or zero.
    public var errno: Int32
    /// What the agent was doing, on what.
    public var subject: Text

    /// Describes a failure.
    public init(_ code: Code, errno: Int32 = 0, _ subject: Text) {
        self.code = code
        self.errno = errno
        self.subject = subject
    }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        writer.write(code.rawValue)
        writer.write(errno)
        writer.write(subject)
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        code = try reader.readCase()
        errno = try reader.read()
        subject = try reader.readText()
    }
}
