/// Takes little-endian fields one after the other; never reads past the end.
struct ByteReader {
    private let bytes: UnsafeRawBufferPointer
    private(set) var offset = 0
    /// What is being read, and where it lies, for the error.
    private let what: String
    private let place: UInt64?

    /// The bytes must outlive the reader.
    init(_ bytes: UnsafeRawBufferPointer, what: String, place: UInt64?) {
        self.bytes = bytes
        self.what = what
        self.place = place
    }

    /// Says that a field is wrong.
    func damage(_ reason: String) -> StoreError { .damaged(.init(what, offset: place, reason: reason)) }

    mutating func take<Value: FixedWidthInteger>(_: Value.Type = Value.self) throws(StoreError) -> Value {
        guard bytes.count - offset >= MemoryLayout<Value>.size else { throw damage("it ends after \(bytes.count) bytes") }
        defer { offset += MemoryLayout<Value>.size }
        return Value(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: Value.self))
    }

    mutating func takeChecksum() throws(StoreError) -> Checksum {
        Checksum(low: try take(), high: try take())
    }

    mutating func takeReference() throws(StoreError) -> DataReference {
        DataReference(location: PageLocation(rawValue: try take()), checksum: try takeChecksum())
    }

    mutating func take(count: Int) throws(StoreError) -> [UInt8] {
        guard count >= 0, bytes.count - offset >= count else { throw damage("it ends after \(bytes.count) bytes") }
        defer { offset += count }
        return [UInt8](bytes[offset..<offset + count])
    }

    /// Takes a name: UTF-8, and not longer than names may be.
    mutating func takeName(count: Int) throws(StoreError) -> String {
        guard count <= StoreFormat.nameBytesMax else { throw damage("a name of \(count) bytes") }
        guard let name = String(validating: try take(count: count), as: UTF8.self) else { throw damage("a name that is not UTF-8") }
        return name
    }

    /// Passes over bytes that must be zero, so that a later format can use them.
    mutating func skipZeros(_ count: Int) throws(StoreError) {
        for byte in try take(count: count) where byte != 0 { throw damage("reserved bytes are in use") }
    }
}
