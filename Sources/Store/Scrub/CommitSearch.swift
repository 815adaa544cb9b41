/// Looks for commit blocks that no log leads to, and keeps what they knew to be durable.
///
/// What was dropped, or cut off after a crash and written anew, is found, too; but it never knew more to be durable than its stream has.
struct CommitSearch {
    private let ground: Ground
    private let streams: Set<StreamIdentity>
    /// The newest sequence that a commit of a stream knew to be durable.
    private(set) var durable: [StreamIdentity: UInt64] = [:]

    /// - Parameter streams: those that are looked for.
    init(ground: Ground, streams: Set<StreamIdentity>) {
        self.ground = ground
        self.streams = streams
    }

    /// Looks at all blocks of the store but some.
    ///
    /// - Parameter referred: by segment, the blocks to pass over: those of checkpoints that are there.
    mutating func look(outside referred: [SegmentBits]) {
        for (segment, bits) in zip(0..<ground.layout.segmentCount, referred) {
            let others = SegmentBits(words: ~bits.words)
            var next = others.first(from: 0)
            while let first = next {
                let end = others.firstClear(from: first)
                look(from: ground.layout.segmentOffset(segment) + UInt64(first * StoreFormat.blockBytes), blocks: end - first)
                next = others.first(from: end)
            }
        }
    }

    /// Looks at some blocks; what lies beyond the end of the store, and what the disk cannot read, is no checkpoint's.
    mutating func look(from offset: UInt64, blocks: Int) {
        let size = StoreFormat.blockBytes
        let end = min(offset + UInt64(blocks * size), ground.layout.endOffset)
        // Holes are passed over.
        let start = max(offset, ground.disk.firstData(from: offset) / UInt64(size) * UInt64(size))
        guard start < end else { return }
        let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(end - start), alignment: size)
        defer { bytes.deallocate() }
        do throws(DiskError) { try ground.disk.read(at: start, into: bytes) } catch { return }
        for place in stride(from: 0, to: bytes.count, by: size) {
            let block = UnsafeRawBufferPointer(rebasing: bytes[place..<place + size])
            guard let stream = CommitBlock.stream(of: block), streams.contains(stream),
                let known = CommitBlock.knownDurable(block, store: ground.identity, stream: stream, offset: start + UInt64(place))
            else { continue }
            durable[stream] = max(known, durable[stream] ?? 0)
        }
    }
}
