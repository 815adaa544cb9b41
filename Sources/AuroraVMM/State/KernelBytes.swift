internal import FoundationEssentials

/// A structure of KVM's interface in the kernel's own layout, which never changes: what was read is what will be written.
///
/// Encoded as a block of data, not number by number.
public struct KernelBytes: Codable, Hashable, Sendable {
    /// The bytes.
    public var bytes: [UInt8]

    /// Wraps bytes.
    public init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// Reads a block of data.
    ///
    /// - Throws: `DecodingError`.
    public init(from decoder: any Decoder) throws { bytes = Array(try decoder.singleValueContainer().decode(Data.self)) }

    /// Writes a block of data.
    ///
    /// - Throws: `EncodingError`.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(Data(bytes))
    }
}

extension KernelBytes {
    /// The little-endian integer at an offset; nil beyond the end.
    func load<Value: FixedWidthInteger>(_ offset: Int, as type: Value.Type = Value.self) -> Value? {
        guard offset >= 0, offset <= bytes.count - MemoryLayout<Value>.size else { return nil }
        return bytes.withUnsafeBytes { Value(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: Value.self)) }
    }

    /// Replaces the little-endian integer at an offset; no effect beyond the end.
    mutating func store<Value: FixedWidthInteger>(_ value: Value, at offset: Int) {
        guard offset >= 0, offset <= bytes.count - MemoryLayout<Value>.size else { return }
        bytes.withUnsafeMutableBytes { $0.storeBytes(of: value.littleEndian, toByteOffset: offset, as: Value.self) }
    }
}
