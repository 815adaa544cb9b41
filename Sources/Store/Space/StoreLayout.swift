/// Where things lie on a store's disk; follows from the numbers of slots and segments.
struct StoreLayout: Hashable, Sendable {
    /// The two superblocks, far enough apart that a partition table or a boot sector harms one only.
    static let superblockOffsets: [UInt64] = [0, 65_536]
    /// The first copies of all slots, behind them the second copies.
    static let slotTableOffset: UInt64 = 131_072
    /// The largest store: locations have 54 bits, and the marks of a collection must fit into memory.
    static let bytesMax: UInt64 = 1 << 50
    /// The fewest segments that make a store worth having.
    static let segmentsMin: UInt32 = 2

    /// Slots.
    let slotCount: UInt32
    /// Segments of 4 MiB.
    let segmentCount: UInt32

    /// Bytes of one copy of all slots, in whole blocks.
    var slotCopyBytes: UInt64 { Self.wholeBlocks(UInt64(slotCount) * UInt64(StoreFormat.sectorBytes)) }
    /// The first segment entry.
    var segmentTableOffset: UInt64 { Self.slotTableOffset + 2 * slotCopyBytes }
    /// The first segment; a multiple of a segment's size.
    var dataOffset: UInt64 {
        let end = segmentTableOffset + UInt64(segmentCount) * UInt64(StoreFormat.sectorBytes)
        let segment = UInt64(StoreFormat.segmentBytes)
        return (end + segment - 1) / segment * segment
    }
    /// The first byte behind the last segment.
    var endOffset: UInt64 { dataOffset + UInt64(segmentCount) * UInt64(StoreFormat.segmentBytes) }
    /// Blocks in all segments.
    var blockCount: UInt64 { UInt64(segmentCount) * UInt64(StoreFormat.segmentBlocks) }

    /// Takes the numbers of a superblock; nil when they are out of range.
    init?(slotCount: UInt32, segmentCount: UInt32) {
        self.slotCount = slotCount
        self.segmentCount = segmentCount
        guard (1...StoreConfiguration.slotsMax).contains(slotCount), segmentCount >= Self.segmentsMin, endOffset <= Self.bytesMax else {
            return nil
        }
    }

    /// As many segments as fit on a disk; nil when it is too small or too large.
    init?(byteCount: UInt64, slotCount: UInt32) {
        guard byteCount <= Self.bytesMax else { return nil }
        var segments = UInt32(byteCount / UInt64(StoreFormat.segmentBytes))
        while segments >= Self.segmentsMin {
            guard let layout = StoreLayout(slotCount: slotCount, segmentCount: segments) else { return nil }
            if layout.endOffset <= byteCount {
                self = layout
                return
            }
            // Each segment more needs an entry: the excess tells how many are too many, at least one.
            segments -= min(segments, max(1, UInt32((layout.endOffset - byteCount) / UInt64(StoreFormat.segmentBytes))))
        }
        return nil
    }

    /// Where a copy (0 or 1) of a slot lies.
    func slotOffset(_ index: UInt32, copy: Int) -> UInt64 {
        Self.slotTableOffset + UInt64(copy) * slotCopyBytes + UInt64(index) * UInt64(StoreFormat.sectorBytes)
    }

    /// Where the entry of a segment lies.
    func segmentEntryOffset(_ segment: UInt32) -> UInt64 {
        segmentTableOffset + UInt64(segment) * UInt64(StoreFormat.sectorBytes)
    }

    /// Where a segment lies.
    func segmentOffset(_ segment: UInt32) -> UInt64 { dataOffset + UInt64(segment) * UInt64(StoreFormat.segmentBytes) }

    /// The block (counted from the first segment's first) that holds a byte; nil outside the segments.
    func block(at offset: UInt64) -> UInt64? {
        guard offset >= dataOffset, offset < endOffset else { return nil }
        return (offset - dataOffset) / UInt64(StoreFormat.blockBytes)
    }

    /// The blocks a location touches; nil when any of it lies outside the segments, and for a zero page.
    func blocks(of location: PageLocation) -> ClosedRange<UInt64>? {
        guard location.length > 0, location.length <= StoreFormat.blockBytes, let first = block(at: location.offset),
            let last = block(at: location.offset + UInt64(location.length) - 1)
        else { return nil }
        return first...last
    }

    /// Where a block (counted from the first segment's first) lies.
    func offset(ofBlock block: UInt64) -> UInt64 { dataOffset + block * UInt64(StoreFormat.blockBytes) }

    private static func wholeBlocks(_ bytes: UInt64) -> UInt64 {
        let block = UInt64(StoreFormat.blockBytes)
        return (bytes + block - 1) / block * block
    }
}
