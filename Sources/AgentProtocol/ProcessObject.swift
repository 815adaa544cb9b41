/// A thread of a process.
public struct ThreadObject: MessageBody, Equatable, Sendable {
    /// The thread's number.
    public var number: Int32 = 0
    /// The state letter of proc(5): `R`, `S`, `D`, `T`.
    public var state: Text = Text()
    /// The name, at most 15 bytes.
    public var name: Text = Text()

    /// An empty value, filled field by field.
    public init() {}

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        writer.write(number)
        writer.write(state)
        writer.write(name)
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        number = try reader.read()
        state = try reader.readText()
        name = try reader.readText()
    }
}

/// A process and what proc(5) tells of it.
public struct ProcessObject: MessageBody, Equatable, Sendable {
    /// The process number.
    public var number: Int32 = 0
    /// The parent's number.
    public var parent: Int32 = 0
    /// The process group.
    public var group: Int32 = 0
    /// The session.
    public var session: Int32 = 0
    /// The state letter of proc(5): `R`, `S`, `D`, `T`, `Z`.
    public var state: Text = Text()
    /// The effective user.
    public var user: UInt32 = 0
    /// The effective group.
    public var userGroup: UInt32 = 0
    /// The controlling terminal's device number, zero for none.
    public var terminal: UInt32 = 0
    /// When it started, in clock ticks (1/100 s) since the guest started.
    public var startTicks: UInt64 = 0
    /// Time spent in user code, in clock ticks.
    public var userTicks: UInt64 = 0
    /// Time spent in the kernel, in clock ticks.
    public var systemTicks: UInt64 = 0
    /// The size of the address space.
    public var virtualBytes: UInt64 = 0
    /// Memory in use.
    public var residentBytes: UInt64 = 0
    /// The name, at most 15 bytes.
    public var name: Text = Text()
    /// The command line.
    public var arguments: [Text] = []
    /// The working directory.
    public var directory: Text = Text()
    /// The program file.
    public var executable: Text = Text()
    /// All threads, the first one included.
    public var threads: [ThreadObject] = []

    /// An empty value, filled field by field.
    public init() {}

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        writer.write(number)
        writer.write(parent)
        writer.write(group)
        writer.write(session)
        writer.write(state)
        writer.write(user)
        writer.write(userGroup)
        writer.write(terminal)
        writer.write(startTicks)
        writer.write(userTicks)
        writer.write(systemTicks)
        writer.write(virtualBytes)
        writer.write(residentBytes)
        writer.write(name)
        writer.write(arguments) { $0.write($1) }
        writer.write(directory)
        writer.write(executable)
        writer.write(threads) { $1.encode(into: &$0) }
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        number = try reader.read()
        parent = try reader.read()
        group = try reader.read()
        session = try reader.read()
        state = try reader.readText()
        user = try reader.read()
        userGroup = try reader.read()
        terminal = try reader.read()
        startTicks = try reader.read()
        userTicks = try reader.read()
        systemTicks = try reader.read()
        virtualBytes = try reader.read()
        residentBytes = try reader.read()
        name = try reader.readText()
        arguments = try reader.readList { (reader: inout ByteReader) throws(ProtocolFault) in try reader.readText() }
        directory = try reader.readText()
        executable = try reader.readText()
        threads = try reader.readList { (reader: inout ByteReader) throws(ProtocolFault) in try ThreadObject(from: &reader) }
    }
}

#if !hasFeature(Embedded)
    extension ThreadObject: Codable {}
    extension ProcessObject: Codable {}
#endif
