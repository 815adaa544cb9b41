/// Why bytes from the other side could not be understood.
public struct ProtocolFault: Error, Equatable, Sendable {
    /// What is wrong.
    public enum Kind: UInt8, Sendable {
        /// The message ends before its last field.
        case truncated
        /// Bytes are left after the last field.
        case trailingBytes
        /// A length, a count or a whole message exceeds its limit in `AgentLimits`.
        case tooLong
        /// A frame does not start with the magic number.
        case badMagic
        /// Reserved header bits are set.
        case reservedBits
        /// The message type is not known in this version.
        case unknownType
        /// A field holds a value outside its range.
        case badValue
        /// The message may not come at this point of the conversation.
        case outOfOrder
        /// The peer sent more standard input than it was granted.
        case windowExceeded
        /// No version is spoken by both sides.
        case versionMismatch
        /// The peer closed the connection within a message or before an answer.
        case connectionClosed
    }

    /// What is wrong.
    public let kind: Kind
    /// The offset in bytes within the message where it was noticed.
    public let offset: Int

    /// Describes a fault at an offset of the message.
    public init(_ kind: Kind, at offset: Int = 0) {
        self.kind = kind
        self.offset = offset
    }
}

#if !hasFeature(Embedded)
    extension ProtocolFault: CustomStringConvertible {
        /// The fault in words, with its place.
        public var description: String {
            let what =
                switch kind {
                case .truncated: "message ends too early"
                case .trailingBytes: "bytes left after the message"
                case .tooLong: "length or count above the limit"
                case .badMagic: "frame without the magic number"
                case .reservedBits: "reserved bits are set"
                case .unknownType: "unknown message type"
                case .badValue: "value out of range"
                case .outOfOrder: "message not allowed at this point"
                case .windowExceeded: "more standard input than granted"
                case .versionMismatch: "no common protocol version (host speaks \(agentProtocolVersion))"
                case .connectionClosed: "connection closed"
                }
            return "agent protocol: \(what) (byte \(offset))"
        }
    }
#endif

/// Takes a message apart; every step is checked against the end and against the limits.
public struct ByteReader {
    private let bytes: [UInt8]
    /// The offset of the next byte.
    public private(set) var offset = 0

    /// Reads `bytes` from the start.
    public init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// Bytes not yet read.
    public var remaining: Int { bytes.count - offset }

    /// Reads an integer, least significant byte first.
    ///
    /// - Throws: `.truncated`.
    public mutating func read<Value: FixedWidthInteger>(_: Value.Type = Value.self) throws(ProtocolFault) -> Value {
        let size = Value.bitWidth / 8
        guard remaining >= size else { throw ProtocolFault(.truncated, at: offset) }
        var value: UInt64 = 0
        for index in 0..<size { value |= UInt64(bytes[offset + index]) << UInt64(8 * index) }
        offset += size
        return Value(truncatingIfNeeded: value)
    }

    /// Reads one byte that must be 0 or 1.
    ///
    /// - Throws: `.truncated`, `.badValue`.
    public mutating func readBool() throws(ProtocolFault) -> Bool {
        let value = try read(UInt8.self)
        guard value <= 1 else { throw ProtocolFault(.badValue, at: offset - 1) }
        return value == 1
    }

    /// Reads a length-prefixed text of at most `AgentLimits.textBytesMax` bytes.
    ///
    /// - Throws: `.truncated`, `.tooLong`.
    public mutating func readText() throws(ProtocolFault) -> Text {
        let start = offset
        let count = Int(try read(UInt32.self))
        guard count <= AgentLimits.textBytesMax else { throw ProtocolFault(.tooLong, at: start) }
        guard count <= remaining else { throw ProtocolFault(.truncated, at: start) }
        defer { offset += count }
        return Text(bytes[offset..<offset + count])
    }

    /// Reads a count and that many elements; a count that the rest of the message cannot hold is refused at once.
    ///
    /// - Throws: `.truncated`, `.tooLong`, and what `element` throws.
    public mutating func readList<Element>(
        _ element: (inout ByteReader) throws(ProtocolFault) -> Element
    ) throws(ProtocolFault) -> [Element] {
        let start = offset
        let count = Int(try read(UInt32.self))
        guard count <= AgentLimits.listCountMax else { throw ProtocolFault(.tooLong, at: start) }
        guard count <= remaining else { throw ProtocolFault(.truncated, at: start) }
        var list: [Element] = []
        list.reserveCapacity(min(count, 1024))
        for _ in 0..<count { list.append(try element(&self)) }
        return list
    }

    /// Reads an enumeration's raw value.
    ///
    /// - Throws: `.truncated`, `.badValue` when no case has the value.
    public mutating func readCase<Case: RawRepresentable>(
        _: Case.Type = Case.self
    ) throws(ProtocolFault) -> Case where Case.RawValue == UInt8 {
        guard let value = Case(rawValue: try read(UInt8.self)) else { throw ProtocolFault(.badValue, at: offset - 1) }
        return value
    }

    /// Checks that every byte was read.
    ///
    /// - Throws: `.trailingBytes`.
    public func finish() throws(ProtocolFault) {
        guard remaining == 0 else { throw ProtocolFault(.trailingBytes, at: offset) }
    }
}

/// A message body: a plain value that can be written to and read from bytes.
public protocol MessageBody: Sendable {
    /// Appends the fields in their documented order.
    func encode(into writer: inout ByteWriter)
    /// Reads the fields in their documented order.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    init(from reader: inout ByteReader) throws(ProtocolFault)
}

extension MessageBody {
    /// The encoded bytes.
    public var encoded: [UInt8] {
        var writer = ByteWriter()
        encode(into: &writer)
        return writer.bytes
    }

    /// Decodes a whole payload; bytes left over are an error.
    ///
    /// - Throws: `ProtocolFault` with the offset of the offending byte.
    public init(payload: [UInt8]) throws(ProtocolFault) {
        var reader = ByteReader(payload)
        try self.init(from: &reader)
        try reader.finish()
    }
}
