/// Puts little-endian fields one after the other.
struct ByteWriter {
    private(set) var bytes: [UInt8] = []

    init(capacity: Int = 512) { bytes.reserveCapacity(capacity) }

    mutating func put<Value: FixedWidthInteger>(_ value: Value) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }

    mutating func put(_ checksum: Checksum) {
        put(checksum.low)
        put(checksum.high)
    }

    mutating func put(_ reference: DataReference) {
        put(reference.location.rawValue)
        put(reference.checksum)
    }

    mutating func put(bytes more: [UInt8]) { bytes.append(contentsOf: more) }

    /// Fills up with zeros to a size.
    mutating func pad(to count: Int) {
        precondition(bytes.count <= count, "a structure has outgrown its place")
        bytes.append(contentsOf: repeatElement(0, count: count - bytes.count))
    }

    /// Puts a checksum into its place, which was left zero.
    mutating func replace(at offset: Int, with checksum: Checksum) {
        var field = ByteWriter(capacity: 16)
        field.put(checksum)
        bytes.replaceSubrange(offset..<offset + 16, with: field.bytes)
    }
}
