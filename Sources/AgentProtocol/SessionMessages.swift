/// The size of a terminal in characters.
public struct WindowSize: MessageBody, Equatable, Sendable {
    /// Lines.
    public var rows: UInt16
    /// Characters in a line.
    public var columns: UInt16

    /// Describes a size.
    public init(rows: UInt16, columns: UInt16) {
        self.rows = rows
        self.columns = columns
    }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        writer.write(rows)
        writer.write(columns)
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        rows = try reader.read()
        columns = try reader.read()
    }
}

/// `start`: run a program; the connection then belongs to its session.
public struct StartRequest: MessageBody, Equatable, Sendable {
    /// The program and its arguments; the first is looked up in `PATH` when it has no slash.
    public var arguments: [Text]
    /// `NAME=value` entries; `PATH`, `HOME` and `TERM` (with a terminal) get defaults when absent.
    public var environment: [Text]
    /// The working directory; empty means `/`.
    public var directory: Text
    /// `user[:group]` by name or number; empty means root.
    public var user: Text
    /// The terminal's size; nil for pipes instead of a terminal.
    public var terminal: WindowSize?
    /// Whether the client will send standard input; `/dev/null` otherwise.
    ///
    /// A terminal always has input.
    public var wantsInput: Bool
    /// Whether the session goes on when its connection ends and can be attached to (the group's application).
    public var survivesDisconnect: Bool

    /// Describes a program to run.
    public init(
        arguments: [Text], environment: [Text] = [], directory: Text = Text(), user: Text = Text(), terminal: WindowSize? = nil,
        wantsInput: Bool = false, survivesDisconnect: Bool = false
    ) {
        self.arguments = arguments
        self.environment = environment
        self.directory = directory
        self.user = user
        self.terminal = terminal
        self.wantsInput = wantsInput
        self.survivesDisconnect = survivesDisconnect
    }

    private static let terminalFlag: UInt8 = 1
    private static let inputFlag: UInt8 = 2
    private static let survivesFlag: UInt8 = 4

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        var flags: UInt8 = 0
        if terminal != nil { flags |= StartRequest.terminalFlag }
        if wantsInput { flags |= StartRequest.inputFlag }
        if survivesDisconnect { flags |= StartRequest.survivesFlag }
        writer.write(flags)
        (terminal ?? WindowSize(rows: 0, columns: 0)).encode(into: &writer)
        writer.write(directory)
        writer.write(user)
        writer.write(arguments) { $0.write($1) }
        writer.write(environment) { $0.write($1) }
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        let flags: UInt8 = try reader.read()
        guard flags < 8 else { throw ProtocolFault(.reservedBits, at: 0) }
        let size = try WindowSize(from: &reader)
        terminal = flags & StartRequest.terminalFlag != 0 ? size : nil
        wantsInput = flags & StartRequest.inputFlag != 0
        survivesDisconnect = flags & StartRequest.survivesFlag != 0
        directory = try reader.readText()
        user = try reader.readText()
        arguments = try reader.readList { (reader: inout ByteReader) throws(ProtocolFault) in try reader.readText() }
        environment = try reader.readList { (reader: inout ByteReader) throws(ProtocolFault) in try reader.readText() }
        guard let program = arguments.first, !program.isEmpty else { throw ProtocolFault(.badValue, at: reader.offset) }
        // A zero byte would silently end an argument early.
        for text in arguments where text.bytes.contains(0) { throw ProtocolFault(.badValue, at: reader.offset) }
        for text in environment where text.bytes.contains(0) { throw ProtocolFault(.badValue, at: reader.offset) }
        guard !directory.bytes.contains(0), !user.bytes.contains(0) else { throw ProtocolFault(.badValue, at: reader.offset) }
    }
}

/// `attach`: go on with a session that runs already.
public struct AttachRequest: MessageBody, Equatable, Sendable {
    /// The session's number.
    public var processNumber: Int32
    /// Bytes of output that the client has from a former connection; what the agent sent beyond them is sent again.
    ///
    /// Nil: only what was never sent. A host that goes on from a checkpoint knows how much it had then; what was on its way to
    /// it at that moment is lost with the connection, and would be missing.
    public var receivedBytes: UInt64?

    /// Names a session.
    public init(_ processNumber: Int32, receivedBytes: UInt64? = nil) {
        self.processNumber = processNumber
        self.receivedBytes = receivedBytes
    }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        writer.write(processNumber)
        if let receivedBytes { writer.write(receivedBytes) }
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        processNumber = try reader.read()
        guard processNumber > 0 else { throw ProtocolFault(.badValue, at: 0) }
        receivedBytes = reader.remaining > 0 ? try reader.read(UInt64.self) : nil
    }
}

/// `started`: the session's process runs.
public struct SessionNumber: MessageBody, Equatable, Sendable {
    /// The session's number, which is the process number of its first process in the guest.
    public var processNumber: Int32

    /// Names a session.
    public init(_ processNumber: Int32) { self.processNumber = processNumber }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) { writer.write(processNumber) }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        processNumber = try reader.read()
        guard processNumber > 0 else { throw ProtocolFault(.badValue, at: 0) }
    }
}

/// `signal`: send a signal to a session.
public struct SignalRequest: MessageBody, Equatable, Sendable {
    /// The session; zero on a session's own connection.
    public var session: Int32
    /// The signal's number, 1 to 64.
    public var signal: Int32
    /// Whether the whole process group gets it rather than the first process only.
    public var wholeGroup: Bool

    /// Describes a signal.
    public init(session: Int32 = 0, signal: Int32, wholeGroup: Bool = false) {
        self.session = session
        self.signal = signal
        self.wholeGroup = wholeGroup
    }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        writer.write(session)
        writer.write(signal)
        writer.write(wholeGroup)
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        session = try reader.read()
        guard session >= 0 else { throw ProtocolFault(.badValue, at: 0) }
        signal = try reader.read()
        guard (1...64).contains(signal) else { throw ProtocolFault(.badValue, at: 4) }
        wholeGroup = try reader.readBool()
    }
}

/// `exited`: how a session's process ended; the last message of a session.
public struct ExitStatus: MessageBody, Equatable, Sendable {
    /// The kind of end.
    public enum Kind: UInt8, Sendable {
        /// The process returned or called `exit`; the value is its code.
        case code = 0
        /// A signal ended it; the value is the signal's number.
        case signal = 1
    }

    /// How it ended.
    public var kind: Kind
    /// The exit code (0...255) or the signal's number (1...64).
    public var value: UInt8

    /// Describes an end.
    public init(_ kind: Kind, _ value: UInt8) {
        self.kind = kind
        self.value = value
    }

    /// The status a shell would report: the code, or 128 and the signal's number.
    public var shellCode: Int32 { kind == .code ? Int32(value) : 128 + Int32(value) }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        writer.write(kind.rawValue)
        writer.write(value)
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        kind = try reader.readCase()
        value = try reader.read()
        guard kind == .code || (1...64).contains(value) else { throw ProtocolFault(.badValue, at: 1) }
    }
}

/// `stdinCredit`: the client may send so many more bytes of standard input.
public struct StdinCredit: MessageBody, Equatable, Sendable {
    /// Additional bytes; never more in sum than `AgentLimits.stdinWindowBytes` outstanding.
    public var bytes: UInt32

    /// Grants bytes.
    public init(_ bytes: UInt32) { self.bytes = bytes }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) { writer.write(bytes) }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        bytes = try reader.read()
        guard bytes <= UInt32(AgentLimits.stdinWindowBytes) else { throw ProtocolFault(.tooLong, at: 0) }
    }
}
