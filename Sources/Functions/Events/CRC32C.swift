/// CRC-32C (Castagnoli), as iSCSI and ext4 have it.
enum CRC32C {
    private static let table = CRC32(polynomial: 0x82f6_3b78)

    /// The checksum of bytes.
    static func checksum(_ bytes: some Sequence<UInt8>) -> UInt32 { table.checksum(bytes) }
}

/// A 32-bit cyclic checksum of reflected bits, by its polynomial.
struct CRC32: Sendable {
    /// That of gzip (RFC 1952) and ZIP.
    static let gzip = CRC32(polynomial: 0xedb8_8320)

    private let table: [UInt32]

    /// Makes the table of a polynomial, its bits reversed.
    init(polynomial: UInt32) {
        table = (0..<256).map { index in
            (0..<8).reduce(UInt32(index)) { value, _ in value & 1 == 1 ? value >> 1 ^ polynomial : value >> 1 }
        }
    }

    /// The checksum of bytes.
    func checksum(_ bytes: some Sequence<UInt8>) -> UInt32 {
        table.withUnsafeBufferPointer { table in
            ~bytes.reduce(~0) { value, byte in value >> 8 ^ table[Int(UInt8(truncatingIfNeeded: value) ^ byte)] }
        }
    }
}
