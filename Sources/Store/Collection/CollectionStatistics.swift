/// What a collection did.
public struct CollectionStatistics: Hashable, Sendable {
    /// Streams walked.
    public var streams = 0
    /// Checkpoints walked.
    public var checkpoints = 0
    /// Tables and other trees walked.
    public var tables = 0
    /// Blocks found to be in use.
    public var blocksKept: UInt64 = 0
    /// Blocks that are free now and were not before.
    public var blocksFreed: UInt64 = 0
    /// Of those, blocks given back to the file system or the device.
    public var blocksDiscarded: UInt64 = 0
    /// Holes punched, or ranges discarded, for that.
    public var discards = 0
    /// Blocks that nothing which can be read refers to, kept for what cannot.
    public var blocksHeldBack: UInt64 = 0
    /// Streams of which something cannot be read.
    public var unreadable: [UnreadableStream] = []
    /// Segments left alone since a writer owns them.
    public var segmentsOwned = 0
    /// Segment entries that were damaged and have been made anew.
    public var segmentsRepaired = 0
    /// Hints removed from the index.
    public var hintsRemoved = 0
    /// What each stream takes.
    public var spaces: [StreamSpace] = []

    /// Bytes that are in use, those of segments that writers own included.
    public var usedBytes: UInt64 {
        (blocksKept &+ blocksHeldBack) &* UInt64(StoreFormat.blockBytes) &+ UInt64(clamping: segmentsOwned)
            &* UInt64(StoreFormat.segmentBytes)
    }
}

/// A stream of which something cannot be read.
public struct UnreadableStream: Hashable, Sendable {
    /// Its name; "slot N" where even that cannot be read.
    public var name: String
    /// The first thing that was found.
    public var reason: String
}

/// How far a collection or a scrub has come.
public enum StoreProgress: Hashable, Sendable {
    /// Streams are walked.
    case streams(done: Int, of: Int)
    /// Segments are looked through.
    case segments(done: Int, of: Int)
    /// It waits until no epoch is in flight.
    case gate(tries: Int, of: Int)
}
