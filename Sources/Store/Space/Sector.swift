/// A structure that fills one sector and ends with its checksum, keyed by its kind, its store and its place.
///
/// Invariants: 512 bytes; the checksum (XXH3-128) covers the first 496. A blank sector is all zeros: never written.
enum Sector {
    /// Bytes before the checksum.
    static let payloadBytes = StoreFormat.sectorBytes - 16

    /// What lies in a sector.
    enum Content {
        /// All zeros.
        case blank
        /// A structure with the right checksum.
        case valid
        /// Neither.
        case damaged
    }

    /// Kinds of structures, so that one is never taken for another.
    enum Kind: UInt64 {
        case superblock = 0x4B4C_4252_5055_5331
        case slot = 0x544F_4C53_544F_4C53
        case segment = 0x544E_454D_4745_5331
        case stamp = 0x504D_4154_534C_4C43
    }

    /// The key of the checksum of a structure of a store at a place.
    static func seed(_ kind: Kind, _ identity: StoreIdentity, at offset: UInt64) -> UInt64 {
        (kind.rawValue ^ identity.low ^ (identity.high << 32 | identity.high >> 32)) &+ offset &* 0x9E37_79B9_7F4A_7C15
    }

    /// Fills up and adds the checksum.
    static func seal(_ writer: consuming ByteWriter, seed: UInt64) -> [UInt8] {
        writer.pad(to: payloadBytes)
        let checksum = writer.bytes.withUnsafeBytes { Checksum(of: $0, seed: seed) }
        writer.put(checksum)
        return writer.bytes
    }

    /// Looks at the bytes of a sector.
    static func check(_ bytes: UnsafeRawBufferPointer, seed: UInt64) -> Content {
        guard bytes.count == StoreFormat.sectorBytes else { return .damaged }
        let low = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: payloadBytes, as: UInt64.self))
        let high = UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: payloadBytes + 8, as: UInt64.self))
        if low == 0, high == 0, isBlank(bytes) { return .blank }
        let payload = UnsafeRawBufferPointer(rebasing: bytes[..<payloadBytes])
        return Checksum(of: payload, seed: seed) == Checksum(low: low, high: high) ? .valid : .damaged
    }

    /// Whether all bytes, a multiple of eight, are zero.
    static func isBlank(_ bytes: UnsafeRawBufferPointer) -> Bool {
        for offset in stride(from: 0, to: bytes.count, by: 8) where bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self) != 0 {
            return false
        }
        return true
    }
}
