/// How the shared memory of a store is divided; follows from the store's layout and the index's size.
struct SharedMemoryShape: Hashable, Sendable {
    /// Bytes of the index unless said otherwise; it has room for 16 GiB of pages.
    static let indexBytesDefault = 64 << 20
    /// The smallest index: when memory is short, a smaller one finds fewer equal pages.
    static let indexBytesMin = 1 << 20
    /// Entries of a bucket: two cache lines of 16-byte entries.
    static let bucketEntries = 8
    static let bucketBytes = bucketEntries * 16
    private static let pageBytes = 4096

    let slotCount: UInt32
    let segmentCount: UInt32
    let bucketCount: Int

    /// - Parameter indexBytes: at most; an index larger than the store has blocks is pointless.
    init(_ layout: StoreLayout, indexBytes: Int = indexBytesDefault) {
        slotCount = layout.slotCount
        segmentCount = layout.segmentCount
        let wanted = min(indexBytes, Int(clamping: layout.blockCount) * 16)
        var buckets = Self.indexBytesMin / Self.bucketBytes
        while buckets * 2 * Self.bucketBytes <= wanted { buckets *= 2 }
        bucketCount = buckets
    }

    /// What a header says; nil when it cannot be.
    init?(_ layout: StoreLayout, bucketCount: UInt64) {
        let buckets = Int(clamping: bucketCount)
        guard buckets > 0, buckets & (buckets - 1) == 0, buckets <= 1 << 34 / Self.bucketBytes else { return nil }
        slotCount = layout.slotCount
        segmentCount = layout.segmentCount
        self.bucketCount = buckets
    }

    var sessionsOffset: Int { Self.pageBytes }
    var segmentsOffset: Int { sessionsOffset + Self.wholePages(8 * Int(slotCount)) }
    var indexOffset: Int { segmentsOffset + Self.wholePages(4 * Int(segmentCount)) }
    var marksOffset: Int { indexOffset + Self.wholePages(bucketCount * Self.bucketBytes) }
    var markBytes: Int { Int(segmentCount) * StoreFormat.segmentBlocks / 8 }
    var keptOffset: Int { marksOffset + Self.wholePages(markBytes) }
    var byteCount: Int { keptOffset + Self.wholePages(markBytes) }

    private static func wholePages(_ bytes: Int) -> Int { (bytes + pageBytes - 1) / pageBytes * pageBytes }
}
