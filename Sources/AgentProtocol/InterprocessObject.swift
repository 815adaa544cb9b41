/// A SysV object, as `/proc/sysvipc` shows it.
public struct SysVObject: MessageBody, Equatable, Sendable {
    /// Kinds of SysV objects.
    public enum Kind: UInt8, Sendable, CaseIterable {
        case sharedMemory = 1
        case semaphores = 2
        case messageQueue = 3
    }

    /// What it is.
    public var kind: Kind = .sharedMemory
    /// The key.
    public var key: Int32 = 0
    /// The identifier.
    public var identifier: Int32 = 0
    /// The permission bits.
    public var mode: UInt32 = 0
    /// The owner.
    public var user: UInt32 = 0
    /// The owning group.
    public var userGroup: UInt32 = 0
    /// The segment's size, or the bytes queued; zero for semaphores.
    public var bytes: UInt64 = 0
    /// Attached processes, semaphores of the set, or messages queued.
    public var count: UInt64 = 0
    /// The process that created a segment, or sent the last message.
    public var creator: Int32 = 0
    /// The process that last attached or detached a segment, or received a message.
    public var lastProcess: Int32 = 0

    /// An empty value, filled field by field.
    public init() {}

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        writer.write(kind.rawValue)
        writer.write(key)
        writer.write(identifier)
        writer.write(mode)
        writer.write(user)
        writer.write(userGroup)
        writer.write(bytes)
        writer.write(count)
        writer.write(creator)
        writer.write(lastProcess)
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        kind = try reader.readCase()
        key = try reader.read()
        identifier = try reader.read()
        mode = try reader.read()
        user = try reader.read()
        userGroup = try reader.read()
        bytes = try reader.read()
        count = try reader.read()
        creator = try reader.read()
        lastProcess = try reader.read()
    }
}

/// A POSIX object with a name: shared memory, a semaphore or a message queue.
public struct NamedObject: MessageBody, Equatable, Sendable {
    /// Kinds of POSIX objects.
    public enum Kind: UInt8, Sendable, CaseIterable {
        case sharedMemory = 1
        case semaphore = 2
        case messageQueue = 3
    }

    /// What it is.
    public var kind: Kind = .sharedMemory
    /// The name, with its leading slash.
    public var name: Text = Text()
    /// The size, or the bytes queued.
    public var bytes: UInt64 = 0
    /// The permission bits.
    public var mode: UInt32 = 0
    /// The owner.
    public var user: UInt32 = 0
    /// The owning group.
    public var userGroup: UInt32 = 0

    /// An empty value, filled field by field.
    public init() {}

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        writer.write(kind.rawValue)
        writer.write(name)
        writer.write(bytes)
        writer.write(mode)
        writer.write(user)
        writer.write(userGroup)
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        kind = try reader.readCase()
        name = try reader.readText()
        bytes = try reader.read()
        mode = try reader.read()
        user = try reader.read()
        userGroup = try reader.read()
    }
}

#if !hasFeature(Embedded)
    extension SysVObject: Codable {}
    extension SysVObject.Kind: NamedCase {}
    extension NamedObject: Codable {}
    extension NamedObject.Kind: NamedCase {}
#endif
