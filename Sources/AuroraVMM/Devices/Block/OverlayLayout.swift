internal import CLinux

/// The header of a copy-on-write overlay, version 1; `docs/design/overlay-format.md` describes the file.
struct OverlayLayout: Equatable {
    static let magic: UInt64 = 0x3157_4f43_4152_5541  // "AURACOW1"
    static let version: UInt32 = 1
    static let blockBytes: Int64 = 4096
    static let headerBytes = 4096
    /// The largest disk: its bitmap is kept in memory, a byte for 32 KiB of disk.
    static let diskBytesMax: Int64 = 16 << 40

    /// Size of the disk, a multiple of the block size.
    let diskBytes: Int64
    /// Tells one base from another: see `fingerprint(_:)`.
    let baseFingerprint: UInt64

    var blockCount: Int { Int(diskBytes / Self.blockBytes) }
    /// Bytes of the bitmap in the file, in whole pages.
    var bitmapBytes: Int { ((blockCount + 7) / 8 + 4095) / 4096 * 4096 }
    /// Where block 0 lies.
    var dataOffset: Int64 { Int64(Self.headerBytes + bitmapBytes) }

    /// The header as it lies in the file.
    var encoded: [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(littleEndian: Self.magic)
        bytes.append(littleEndian: Self.version)
        bytes.append(littleEndian: UInt32(Self.blockBytes))
        bytes.append(littleEndian: UInt64(diskBytes))
        bytes.append(littleEndian: baseFingerprint)
        bytes.append(littleEndian: UInt64(bitmapBytes))
        bytes.append(littleEndian: UInt64(dataOffset))
        bytes.append(contentsOf: repeatElement(0, count: Self.headerBytes - 8 - bytes.count))
        bytes.append(littleEndian: Self.fingerprint(bytes))
        return bytes
    }

    init(diskBytes: Int64, baseFingerprint: UInt64) {
        self.diskBytes = diskBytes
        self.baseFingerprint = baseFingerprint
    }

    /// Reads a header.
    ///
    /// - Throws: what is wrong with it, in words.
    init(decoding bytes: [UInt8]) throws(OverlayRefusal) {
        guard bytes.count == Self.headerBytes, Self.load(bytes, 0, UInt64.self) == Self.magic else {
            throw OverlayRefusal(reason: "it is not a copy-on-write overlay")
        }
        guard Self.load(bytes, Self.headerBytes - 8, UInt64.self) == Self.fingerprint(Array(bytes.dropLast(8))) else {
            throw OverlayRefusal(reason: "its header is damaged")
        }
        let version = Self.load(bytes, 8, UInt32.self)
        guard version == Self.version else {
            throw OverlayRefusal(reason: "its version \(version) is unknown; this program knows \(Self.version)")
        }
        let diskBytes = Int64(truncatingIfNeeded: Self.load(bytes, 16, UInt64.self))
        guard Self.load(bytes, 12, UInt32.self) == UInt32(Self.blockBytes), diskBytes > 0, diskBytes <= Self.diskBytesMax,
            diskBytes % Self.blockBytes == 0
        else { throw OverlayRefusal(reason: "its sizes make no sense") }
        self.init(diskBytes: diskBytes, baseFingerprint: Self.load(bytes, 24, UInt64.self))
        guard Self.load(bytes, 32, UInt64.self) == UInt64(bitmapBytes), Self.load(bytes, 40, UInt64.self) == UInt64(dataOffset) else {
            throw OverlayRefusal(reason: "its offsets make no sense")
        }
    }

    private static func load<Value: FixedWidthInteger>(_ bytes: [UInt8], _ offset: Int, _ type: Value.Type) -> Value {
        bytes.withUnsafeBytes { Value(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: Value.self)) }
    }

    /// FNV-1a, 64 bits: finds damage and mix-ups, not malice.
    static func fingerprint(_ bytes: [UInt8]) -> UInt64 {
        var hash: UInt64 = 0xcbf2_9ce4_8422_2325
        for byte in bytes { hash = (hash ^ UInt64(byte)) &* 0x0000_0100_0000_01b3 }
        return hash
    }
}

/// What is wrong with an overlay.
struct OverlayRefusal: Error, Equatable {
    let reason: String
}
