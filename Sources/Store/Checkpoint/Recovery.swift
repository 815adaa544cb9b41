/// Makes durable what a crashed writer left behind its last flush.
///
/// A flush that failed may have made the kernel forget that pages are not on the disk, so flushing again proves nothing: what is not known
/// to be durable is read, checked (by `StreamState`) and written once more.
struct Recovery {
    let state: StreamState
    let source: NodeSource

    /// Writes and flushes it.
    func settle(_ flusher: any DiskFlusher) throws(StoreError) {
        guard !state.unsettled.isEmpty else { return }
        for block in state.unsettled { try rewrite(block) }
        try flusher.settle()
    }

    private func rewrite(_ block: CommitBlock) throws(StoreError) {
        var blocks: Set<UInt64> = [block.offset]
        if block.flags & CommitBlock.settledFlag == 0 {
            try collect(block.delta, &blocks, things: true)
            try collect(block.state, &blocks, things: true)
            if let table = block.chain.first { try collect(table, &blocks, things: false) }
        }
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: StoreFormat.blockBytes, alignment: StoreFormat.blockBytes)
        defer { buffer.deallocate() }
        for offset in blocks.sorted() {
            try source.disk.load(at: offset, into: buffer, what: "block")
            do throws(DiskError) { try source.disk.write([UnsafeRawBufferPointer(buffer)], at: offset) } catch { throw .disk(error) }
        }
    }

    private func collect(_ tree: TreeReference, _ blocks: inout Set<UInt64>, things: Bool) throws(StoreError) {
        let size = UInt64(StoreFormat.blockBytes)
        func add(_ location: PageLocation) {
            guard !location.isZero else { return }
            blocks.insert(location.offset / size * size)
            blocks.insert((location.offset + UInt64(location.length) - 1) / size * size)
        }
        try Tree(reference: tree, source: source).forEachNode { place, height, entries throws(StoreError) in
            add(place.location)
            if height == 0, things { for entry in entries { add(entry.location) } }
            return true
        }
    }
}
