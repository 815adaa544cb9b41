/// Builds a message: little-endian integers, length-prefixed texts and lists.
public struct ByteWriter {
    /// What has been written.
    public private(set) var bytes: [UInt8] = []

    /// Starts with nothing written.
    public init() {}

    /// Appends an integer, least significant byte first.
    public mutating func write<Value: FixedWidthInteger>(_ value: Value) {
        var rest = UInt64(truncatingIfNeeded: value)
        for _ in 0..<(Value.bitWidth / 8) {
            bytes.append(UInt8(truncatingIfNeeded: rest))
            rest >>= 8
        }
    }

    /// Appends a truth value as one byte, 0 or 1.
    public mutating func write(_ value: Bool) { bytes.append(value ? 1 : 0) }

    /// Appends a 32-bit length and the bytes; what exceeds `AgentLimits.textBytesMax` is cut off.
    public mutating func write(_ text: Text) {
        let count = min(text.bytes.count, AgentLimits.textBytesMax)
        write(UInt32(truncatingIfNeeded: count))
        bytes.append(contentsOf: text.bytes.prefix(count))
    }

    /// Appends a 32-bit count and the elements; what exceeds `AgentLimits.listCountMax` is left out.
    public mutating func write<Element>(_ list: [Element], _ element: (inout ByteWriter, Element) -> Void) {
        let count = min(list.count, AgentLimits.listCountMax)
        write(UInt32(truncatingIfNeeded: count))
        for index in 0..<count { element(&self, list[index]) }
    }

    /// Appends raw bytes without a length.
    public mutating func append(raw: [UInt8]) { bytes.append(contentsOf: raw) }
}
