/// What is fixed when a store is made.
public struct StoreConfiguration: Sendable, Hashable {
    /// Size of a store whose file is made, in bytes: 256 GiB, sparse, so that it is a limit rather than a cost.
    public static let fileBytesDefault: UInt64 = 256 << 30
    /// Slots unless said otherwise.
    public static let slotsDefault: UInt32 = 4096
    /// Slots at most.
    public static let slotsMax: UInt32 = 65_535

    /// How many streams it can hold at once.
    public var slotCount: UInt32
    /// Told from any other store.
    public var identity: StoreIdentity
    /// When it was made: nanoseconds since 1970-01-01 00:00 UTC.
    public var createdAt: Int64
    /// Whether what lies on the disk may be overwritten.
    public var overwrites: Bool

    /// A random identity unless one is given.
    public init(
        slotCount: UInt32 = slotsDefault, identity: StoreIdentity = .random(), createdAt: Int64 = 0, overwrites: Bool = false
    ) {
        self.slotCount = slotCount
        self.identity = identity
        self.createdAt = createdAt
        self.overwrites = overwrites
    }
}

extension StoreIdentity {
    /// A new one, from the system's generator.
    public static func random() -> StoreIdentity {
        var generator = SystemRandomNumberGenerator()
        return StoreIdentity(low: generator.next(), high: generator.next())
    }
}
