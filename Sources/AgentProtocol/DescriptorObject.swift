/// An open descriptor of a process: what it refers to, and in which state.
public struct DescriptorObject: MessageBody, Equatable, Sendable {
    /// What a descriptor refers to.
    public enum Kind: UInt8, Sendable, CaseIterable {
        case other = 0
        case file = 1
        case directory = 2
        case characterDevice = 3
        case blockDevice = 4
        case pipe = 5
        case namedPipe = 6
        case socket = 7
        case terminal = 8
        case terminalMaster = 9
        case memoryFile = 10
        case eventCounter = 11
        case timer = 12
        case epoll = 13
        case signals = 14
        case inotify = 15
        case processHandle = 16
        case messageQueue = 17
    }

    /// The process.
    public var process: Int32 = 0
    /// The descriptor's number.
    public var number: Int32 = 0
    /// What it refers to.
    public var kind: Kind = .other
    /// The flags of open(2), access mode included.
    public var flags: UInt32 = 0
    /// The offset of the next read or write in bytes.
    public var offset: UInt64 = 0
    /// The device of the file system that holds the inode.
    public var device: UInt64 = 0
    /// The inode number: what two descriptors of one object have in common.
    public var inode: UInt64 = 0
    /// The size in bytes.
    public var size: UInt64 = 0
    /// Whether the file has no name any more and lives as long as its descriptors.
    public var isDeleted = false
    /// The path, or the kernel's name for an object without one, such as `pipe:[4711]`.
    public var target = Text()
    /// What is special to the kind.
    public var detail = DescriptorDetail.none

    /// An empty value, filled field by field.
    public init() {}

    /// Whether it may be read from.
    public var isReadable: Bool { flags & 3 != 1 }

    /// Whether it may be written to.
    public var isWritable: Bool { flags & 3 != 0 }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        writer.write(process)
        writer.write(number)
        writer.write(kind.rawValue)
        writer.write(flags)
        writer.write(offset)
        writer.write(device)
        writer.write(inode)
        writer.write(size)
        writer.write(isDeleted)
        writer.write(target)
        detail.encode(into: &writer)
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        process = try reader.read()
        number = try reader.read()
        kind = try reader.readCase()
        flags = try reader.read()
        offset = try reader.read()
        device = try reader.read()
        inode = try reader.read()
        size = try reader.read()
        isDeleted = try reader.readBool()
        target = try reader.readText()
        detail = try DescriptorDetail(from: &reader)
    }
}

/// What is special to one kind of descriptor, from `/proc/PID/fdinfo`.
public enum DescriptorDetail: MessageBody, Equatable, Sendable {
    /// Nothing special.
    case none
    /// An eventfd's counter.
    case counter(UInt64)
    /// A timerfd: its clock's number, and nanoseconds until it fires (zero: not armed) and between firings.
    case timer(clock: Int32, remaining: UInt64, interval: UInt64)
    /// An epoll set's members.
    case members([EpollMember])
    /// A signalfd's signals, bit 0 for signal 1.
    case signals(UInt64)
    /// How many watches an inotify descriptor has.
    case watches(UInt32)
    /// A terminal's number, as in `/dev/pts/N`.
    case terminal(UInt32)
    /// The process that a pidfd stands for.
    case process(Int32)

    /// Appends a tag and the case's fields.
    public func encode(into writer: inout ByteWriter) {
        switch self {
        case .none: writer.write(UInt8(0))
        case .counter(let value):
            writer.write(UInt8(1))
            writer.write(value)
        case .timer(let clock, let remaining, let interval):
            writer.write(UInt8(2))
            writer.write(clock)
            writer.write(remaining)
            writer.write(interval)
        case .members(let members):
            writer.write(UInt8(3))
            writer.write(members) { $1.encode(into: &$0) }
        case .signals(let mask):
            writer.write(UInt8(4))
            writer.write(mask)
        case .watches(let count):
            writer.write(UInt8(5))
            writer.write(count)
        case .terminal(let number):
            writer.write(UInt8(6))
            writer.write(number)
        case .process(let number):
            writer.write(UInt8(7))
            writer.write(number)
        }
    }

    /// Reads a tag and the case's fields.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        switch try reader.read(UInt8.self) {
        case 0: self = .none
        case 1: self = .counter(try reader.read())
        case 2: self = .timer(clock: try reader.read(), remaining: try reader.read(), interval: try reader.read())
        case 3:
            self = .members(
                try reader.readList { (reader: inout ByteReader) throws(ProtocolFault) in try EpollMember(from: &reader) })
        case 4: self = .signals(try reader.read())
        case 5: self = .watches(try reader.read())
        case 6: self = .terminal(try reader.read())
        case 7: self = .process(try reader.read())
        default: throw ProtocolFault(.badValue, at: reader.offset - 1)
        }
    }
}

/// One descriptor that an epoll set watches.
public struct EpollMember: MessageBody, Equatable, Sendable {
    /// The watched descriptor's number.
    public var descriptor: Int32
    /// The events of epoll_ctl(2) that are waited for.
    public var events: UInt32

    /// Describes a member.
    public init(descriptor: Int32, events: UInt32) {
        self.descriptor = descriptor
        self.events = events
    }

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        writer.write(descriptor)
        writer.write(events)
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        descriptor = try reader.read()
        events = try reader.read()
    }
}

#if !hasFeature(Embedded)
    extension DescriptorObject: Codable {}
    extension DescriptorObject.Kind: NamedCase {}
    extension DescriptorDetail: Codable {}
    extension EpollMember: Codable {}
#endif
