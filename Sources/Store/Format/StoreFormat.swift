/// Sizes that the format fixes; `docs/store-format.md` is the reference.
public enum StoreFormat {
    /// Bytes of a page and of the unit of allocation.
    public static let blockBytes = 4096
    /// Bytes that a power cut leaves whole.
    public static let sectorBytes = 512
    /// Blocks in a segment.
    public static let segmentBlocks = 1024
    /// Bytes of a segment: 4 MiB.
    public static let segmentBytes = segmentBlocks * blockBytes
    /// Bytes of an entry of a table.
    public static let entryBytes = 32
    /// Entries in a chunk of a table.
    public static let chunkEntries = 128
    /// Bytes of the longest name of a stream or a checkpoint.
    public static let nameBytesMax = 128
}
