/// Little-endian writing at a place, as the tables of a boot want it.
extension [UInt8] {
    /// Replaces the bytes at `offset`, which must exist, by an integer.
    mutating func put<Value: FixedWidthInteger>(_ value: Value, at offset: Int) {
        for index in 0..<Value.bitWidth / 8 { self[offset + index] = UInt8(truncatingIfNeeded: value >> Value(8 * index)) }
    }
}
