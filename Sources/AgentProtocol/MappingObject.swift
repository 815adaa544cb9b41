/// Mappings of one file (or kind of memory) in one process, taken together.
public struct MappingObject: MessageBody, Equatable, Sendable {
    /// The process.
    public var process: Int32 = 0
    /// The file; `[heap]`, `[stack]` and the like as proc(5) names them; empty for anonymous memory.
    public var path: Text = Text()
    /// The file's inode number, or zero.
    public var inode: UInt64 = 0
    /// Whether changes are shared with other processes.
    public var isShared: Bool = false
    /// Whether any part is writable.
    public var isWritable: Bool = false
    /// Whether any part is executable.
    public var isExecutable: Bool = false
    /// Whether the file has no name any more.
    public var isDeleted: Bool = false
    /// How many regions were taken together.
    public var regions: UInt32 = 0
    /// Their size in sum.
    public var bytes: UInt64 = 0

    /// An empty value, filled field by field.
    public init() {}

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        writer.write(process)
        writer.write(path)
        writer.write(inode)
        writer.write(isShared)
        writer.write(isWritable)
        writer.write(isExecutable)
        writer.write(isDeleted)
        writer.write(regions)
        writer.write(bytes)
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        process = try reader.read()
        path = try reader.readText()
        inode = try reader.read()
        isShared = try reader.readBool()
        isWritable = try reader.readBool()
        isExecutable = try reader.readBool()
        isDeleted = try reader.readBool()
        regions = try reader.read()
        bytes = try reader.read()
    }
}

#if !hasFeature(Embedded)
    extension MappingObject: Codable {}
#endif
