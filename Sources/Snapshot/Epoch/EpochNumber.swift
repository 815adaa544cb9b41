/// The number of an epoch of a group; grows by one with each checkpoint, never used twice in a history.
public struct EpochNumber: RawRepresentable, Hashable, Comparable, Sendable, Codable, CustomStringConvertible {
    /// The number; the first epoch is 1.
    public var rawValue: UInt64

    /// Wraps a number.
    public init(rawValue: UInt64) { self.rawValue = rawValue }

    /// Wraps a number.
    public init(_ rawValue: UInt64) { self.rawValue = rawValue }

    /// The epoch after this one.
    public var next: EpochNumber { EpochNumber(rawValue &+ 1) }

    /// Orders epochs by time.
    public static func < (left: EpochNumber, right: EpochNumber) -> Bool { left.rawValue < right.rawValue }

    /// The number in digits.
    public var description: String { String(rawValue) }
}

/// Names a page of a checkpoint: of memory, or of a volume.
///
/// Ordered by map, then by page; both fit one word.
public struct PageKey: Hashable, Comparable, Sendable, CustomStringConvertible {
    /// The map and the page in one number.
    public let rawValue: UInt64

    private static let pageBits: UInt64 = 48
    /// The map of the guest's memory, whose pages are those of `GuestMemory.pageCount`.
    public static let memory = 0
    /// More maps than a machine has disks.
    public static let mapsMax = 1 << 16
    /// Pages of a map: an exbibyte.
    public static let pagesMax = 1 << 48

    /// Names page `page` of map `map`: zero is memory, the volumes follow from one.
    ///
    /// - Precondition: both are in range.
    public init(map: Int, page: Int) {
        precondition(map >= 0 && map < PageKey.mapsMax && page >= 0 && page < PageKey.pagesMax)
        rawValue = UInt64(map) << PageKey.pageBits | UInt64(page)
    }

    init(rawValue: UInt64) { self.rawValue = rawValue }

    /// Zero for memory, else the volume.
    public var map: Int { Int(rawValue >> PageKey.pageBits) }
    /// The page's number in its map.
    public var page: Int { Int(rawValue & (1 << PageKey.pageBits - 1)) }

    /// Orders by map, then by page.
    public static func < (left: PageKey, right: PageKey) -> Bool { left.rawValue < right.rawValue }

    /// "MAP:PAGE".
    public var description: String { "\(map):\(page)" }
}
