/// The place of a page in a checkpoint: a map (0 is memory, 1… are volumes) and a page number in it.
public struct PageKey: Hashable, Comparable, Sendable {
    /// Pages a map can have: 2^48, an exabyte.
    public static let pagesMax: UInt64 = 1 << 48
    /// `map << 48 | page`.
    public let rawValue: UInt64

    /// Takes a key as it lies in a table.
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// Names a page; nil when the page number does not fit.
    public init?(map: UInt16, page: UInt64) {
        guard page < Self.pagesMax else { return nil }
        rawValue = UInt64(map) << 48 | page
    }

    /// The map.
    public var map: UInt16 { UInt16(truncatingIfNeeded: rawValue >> 48) }
    /// The number of the page in its map.
    public var page: UInt64 { rawValue & (Self.pagesMax - 1) }

    /// By map, then by page.
    public static func < (one: PageKey, other: PageKey) -> Bool { one.rawValue < other.rawValue }
}
