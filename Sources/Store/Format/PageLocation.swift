/// Where the bytes of a page lie: byte offset / 64 in the upper 48 bits, stored length in bytes in the lower 16.
public struct PageLocation: Hashable, Sendable {
    /// Offsets are multiples of this many bytes.
    public static let alignment: UInt64 = 64
    /// As it lies in a table.
    public let rawValue: UInt64
    /// A page of zeros: nothing is stored.
    public static let zero = PageLocation(rawValue: 0)

    /// Takes a location as it lies in a table; whether it is inside the disk is checked where it is used.
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// Names stored bytes; nil for an offset that is not aligned or too large, or a length that is not 1…4096.
    public init?(offset: UInt64, length: Int) {
        guard offset % Self.alignment == 0, offset / Self.alignment < 1 << 48, (1...StoreFormat.blockBytes).contains(length) else {
            return nil
        }
        rawValue = (offset / Self.alignment) << 16 | UInt64(length)
    }

    /// First byte on the disk.
    public var offset: UInt64 { (rawValue >> 16) * Self.alignment }
    /// Stored bytes: 4096 is raw, less is compressed, 0 is a page of zeros.
    public var length: Int { Int(rawValue & 0xFFFF) }
    /// Whether nothing is stored because the page is zero.
    public var isZero: Bool { length == 0 }
}
