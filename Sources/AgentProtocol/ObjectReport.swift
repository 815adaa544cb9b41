/// `objectReport`: the POSIX objects of a guest at one moment, as its kernel shows them.
public struct ObjectReport: MessageBody, Equatable, Sendable {
    /// Whether something was left out because a limit of the agent was reached.
    public var isTruncated = false
    /// All processes but kernel threads, ordered by number.
    public var processes: [ProcessObject] = []
    /// The open descriptors of the processes.
    public var descriptors: [DescriptorObject] = []
    /// UNIX sockets; a descriptor belongs to one when the inode is the same.
    public var unixSockets: [UnixSocketObject] = []
    /// TCP and UDP sockets; a descriptor belongs to one when the inode is the same.
    public var internetSockets: [InternetSocketObject] = []
    /// What the processes have mapped, one entry a process, file and kind of sharing.
    public var mappings: [MappingObject] = []
    /// SysV shared memory, semaphores and message queues.
    public var sysvObjects: [SysVObject] = []
    /// POSIX shared memory, semaphores and message queues.
    public var namedObjects: [NamedObject] = []

    /// An empty report.
    public init() {}

    /// Appends the fields in wire order.
    public func encode(into writer: inout ByteWriter) {
        writer.write(isTruncated)
        writer.write(processes) { $1.encode(into: &$0) }
        writer.write(descriptors) { $1.encode(into: &$0) }
        writer.write(unixSockets) { $1.encode(into: &$0) }
        writer.write(internetSockets) { $1.encode(into: &$0) }
        writer.write(mappings) { $1.encode(into: &$0) }
        writer.write(sysvObjects) { $1.encode(into: &$0) }
        writer.write(namedObjects) { $1.encode(into: &$0) }
    }

    /// Reads the fields in wire order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(from reader: inout ByteReader) throws(ProtocolFault) {
        isTruncated = try reader.readBool()
        processes = try ObjectReport.list(&reader)
        descriptors = try ObjectReport.list(&reader)
        unixSockets = try ObjectReport.list(&reader)
        internetSockets = try ObjectReport.list(&reader)
        mappings = try ObjectReport.list(&reader)
        sysvObjects = try ObjectReport.list(&reader)
        namedObjects = try ObjectReport.list(&reader)
    }

    private static func list<Body: MessageBody>(_ reader: inout ByteReader) throws(ProtocolFault) -> [Body] {
        try reader.readList { (reader: inout ByteReader) throws(ProtocolFault) in try Body(from: &reader) }
    }
}

#if !hasFeature(Embedded)
    extension ObjectReport: Codable {}

    /// A wire enumeration that is spelled by name in JSON.
    public protocol NamedCase: CaseIterable, Codable, RawRepresentable where RawValue == UInt8 {}

    extension NamedCase {
        /// Reads a case by its name.
        public init(from decoder: any Decoder) throws {
            let name = try decoder.singleValueContainer().decode(String.self)
            guard let found = Self.allCases.first(where: { "\($0)" == name }) else {
                throw DecodingError.dataCorrupted(.init(codingPath: decoder.codingPath, debugDescription: "No case is named \(name)"))
            }
            self = found
        }

        /// Writes the case's name.
        public func encode(to encoder: any Encoder) throws {
            var container = encoder.singleValueContainer()
            try container.encode("\(self)")
        }
    }
#endif
