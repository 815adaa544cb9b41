/// What became of the pages of an epoch, and what it cost.
public struct EpochStatistics: Hashable, Sendable {
    /// Pages the caller gave.
    public var offeredPages: UInt64 = 0
    /// Of those: as they were before, so nothing to do.
    public var unchangedPages: UInt64 = 0
    /// Became zero: nothing is stored.
    public var zeroPages: UInt64 = 0
    /// Were in the store already, compared byte by byte.
    public var sharedPages: UInt64 = 0
    /// Stored anew, and the bytes that took.
    public var newPages: UInt64 = 0
    /// Bytes of pages stored anew.
    public var newPageBytes: UInt64 = 0
    /// Bytes of tables, states and the commit block.
    public var metadataBytes: UInt64 = 0
    /// Entries copied by merging tables.
    public var mergedEntries: UInt64 = 0
    /// Time that took, by the caller's clock, in nanoseconds.
    public var mergeNanoseconds: UInt64 = 0
    /// Bytes written, all included.
    public var writtenBytes: UInt64 = 0

    /// Nothing yet.
    public init() {}
}
