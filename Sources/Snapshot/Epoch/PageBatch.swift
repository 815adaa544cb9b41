internal import AuroraVMM

/// Pages on their way into a `PageSet`, in leased buffers.
///
/// Used by one thread at a time. `add` neither allocates nor faults within what `reserve` has promised.
final class PageBatch {
    private let pool: PagePool
    private(set) var entries: [PageSet.Entry] = []
    private var chunks: [UInt32] = []
    /// Buffers in use of `chunks`, from the first.
    private(set) var used = 0

    init(_ pool: PagePool) { self.pool = pool }

    deinit { pool.release(chunks) }

    /// Pages added.
    var count: Int { entries.count }
    /// Which.
    var keys: some Sequence<PageKey> { entries.lazy.map { PageKey(rawValue: $0.key) } }
    /// Buffers that are left without leasing.
    var room: Int { chunks.count * PagePool.chunkPages - used }
    /// Chunks that hold pages.
    var chunksUsed: Int { (used + PagePool.chunkPages - 1) / PagePool.chunkPages }
    /// Chunks that it has.
    var chunksLeased: Int { chunks.count }

    /// Leases buffers until there are `pages`; false when fewer than `keeping` chunks would be left to others.
    func reserve(_ pages: Int, keeping: Int = 0) -> Bool {
        while room < pages {
            guard let chunk = pool.lease(keeping: keeping) else { return false }
            chunks.append(chunk)
        }
        reserveEntries(room)
        return true
    }

    /// Makes room in the list of pages for more, with and without buffers.
    func reserveEntries(_ more: Int) {
        let wanted = entries.count + more
        // Not by exactly what is wanted: each growth copies the list.
        if entries.capacity < wanted { entries.reserveCapacity(max(wanted, entries.capacity * 2)) }
    }

    /// Gives back what only a burst has needed: chunks beyond those for some pages, and a long list.
    func trim(keeping pages: Int) {
        let kept = max(chunksUsed, (pages + PagePool.chunkPages - 1) / PagePool.chunkPages)
        if chunks.count > kept {
            pool.release(Array(chunks[kept...]))
            chunks.removeSubrange(kept...)
        }
        if entries.isEmpty, entries.capacity > PageBatch.entriesKept { entries = [] }
    }

    /// Entries whose memory is kept though nobody needs it now: a MiB.
    private static let entriesKept = 1 << 16

    /// A buffer for the page, which is not among the others; nil when none is left.
    @inline(__always)
    func add(_ key: PageKey) -> UnsafeMutableRawPointer? {
        guard let slot = takeSlot() else { return nil }
        entries.append(PageSet.Entry(key: key.rawValue, slot: slot))
        return pool.address(slot: slot)
    }

    @inline(__always)
    private func takeSlot() -> UInt32? {
        guard room > 0 else { return nil }
        defer { used += 1 }
        return chunks[used / PagePool.chunkPages] * UInt32(PagePool.chunkPages) + UInt32(used % PagePool.chunkPages)
    }

    /// Adds a page of zeros, which takes no buffer.
    @inline(__always)
    func addZero(_ key: PageKey) { entries.append(PageSet.Entry(key: key.rawValue, slot: PagePool.zeroSlot)) }

    /// The buffer of a page that was added; nil for a page of zeros.
    @inline(__always)
    func buffer(at index: Int) -> UnsafeMutableRawPointer? {
        let slot = entries[index].slot
        return slot == PagePool.zeroSlot ? nil : pool.address(slot: slot)
    }

    /// Gives a page that was added as zeros a buffer; nil when none is left.
    func replaceZero(at index: Int) -> UnsafeMutableRawPointer? {
        guard let slot = takeSlot() else { return nil }
        entries[index].slot = slot
        return pool.address(slot: slot)
    }

    /// The pages added, and a new beginning; buffers leased in vain serve the next batch.
    func takeAll() -> PageSet {
        let needed = chunksUsed
        let set = PageSet(entries, chunks: Array(chunks[..<needed]), pool: pool)
        chunks.removeFirst(needed)
        entries.removeAll(keepingCapacity: true)
        used = 0
        return set
    }
}
