/// A checkpoint as the history lists it, without reading it: 192 bytes on the disk.
public struct CheckpointEntry: Hashable, Sendable {
    static let byteCount = 192
    /// Entries in a page of history.
    static let perPage = StoreFormat.blockBytes / byteCount

    /// The epoch: ascending in a stream.
    public var number: UInt64
    /// Nanoseconds since 1970, by the clock of whoever made it.
    public var time: UInt64
    /// Pages its epoch changed.
    public var pageCount: UInt64
    /// Of those, pages that were stored anew: neither zero nor already there.
    public var newPageCount: UInt64
    /// Bytes written for it, all included.
    public var writtenBytes: UInt64
    /// The name, empty for none.
    public var name: String
    /// What the caller gave when it closed the epoch, at most 120 bytes.
    public var statistics: [UInt8]
    /// The commit: counted in its stream, where it lies, its checksum.
    var sequence: UInt64
    var offset: UInt64
    var checksum: Checksum

    init(_ block: CommitBlock, checksum: Checksum) {
        number = block.number
        time = block.time
        pageCount = block.pageCount
        newPageCount = block.newPageCount
        writtenBytes = block.writtenBytes
        name = block.name
        statistics = block.statistics
        sequence = block.sequence
        offset = block.offset
        self.checksum = checksum
    }

    /// The name is not part of it: names can change, and lie in a tree of their own.
    func encode(to writer: inout ByteWriter) {
        let end = writer.bytes.count + Self.byteCount
        for field in [number, sequence, time, offset] { writer.put(field) }
        writer.put(checksum)
        writer.put(UInt32(clamping: pageCount))
        writer.put(UInt32(clamping: newPageCount))
        writer.put(UInt64(writtenBytes) & ((1 << 48) - 1) | UInt64(statistics.count) << 48)
        writer.put(bytes: statistics)
        writer.pad(to: end)
    }

    init(from reader: inout ByteReader) throws(StoreError) {
        let start = reader.offset
        number = try reader.take()
        sequence = try reader.take()
        time = try reader.take()
        offset = try reader.take()
        checksum = try reader.takeChecksum()
        pageCount = UInt64(try reader.take(UInt32.self))
        newPageCount = UInt64(try reader.take(UInt32.self))
        let packed: UInt64 = try reader.take()
        writtenBytes = packed & ((1 << 48) - 1)
        let statisticsCount = Int(packed >> 48)
        guard statisticsCount <= CommitBlock.statisticsBytesMax else { throw reader.damage("\(statisticsCount) bytes of statistics") }
        statistics = try reader.take(count: statisticsCount)
        name = ""
        try reader.skipZeros(start + Self.byteCount - reader.offset)
    }
}
