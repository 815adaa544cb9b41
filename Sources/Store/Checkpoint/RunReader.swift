/// Reads many pages with few requests.
struct RunReader {
    let pages: PageReader

    /// Fills a buffer with pages from `first` on; `entries` are those that are stored, in order.
    func read(_ entries: [TreeEntry], first: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(StoreError) {
        let size = StoreFormat.blockBytes
        var filled = 0
        var index = 0
        while index < entries.count {
            var end = index + 1
            while end < entries.count, follows(entries[end], entries[end - 1]) { end += 1 }
            let start = Int(entries[index].key - first) * size
            zero(buffer, from: filled, to: start)
            filled = start + (end - index) * size
            let run = UnsafeMutableRawBufferPointer(rebasing: buffer[start..<filled])
            if end - index == 1 {
                try pages.read(entries[index], into: run)
            } else {
                try pages.source.disk.load(at: entries[index].location.offset, into: run, what: "page")
                try check(entries[index..<end], run)
            }
            index = end
        }
        zero(buffer, from: filled, to: buffer.count)
    }

    /// Whether a raw page follows another one in its map and on the disk.
    private func follows(_ entry: TreeEntry, _ before: TreeEntry) -> Bool {
        entry.key == before.key &+ 1 && before.location.length == StoreFormat.blockBytes && entry.location.length == StoreFormat.blockBytes
            && entry.location.offset == before.location.offset + UInt64(StoreFormat.blockBytes)
    }

    private func check(_ entries: ArraySlice<TreeEntry>, _ run: UnsafeMutableRawBufferPointer) throws(StoreError) {
        for (index, entry) in entries.enumerated() {
            let start = index * StoreFormat.blockBytes
            let page = UnsafeRawBufferPointer(rebasing: run[start..<start + StoreFormat.blockBytes])
            guard Checksum(of: page) == entry.checksum else {
                throw .damaged(.init("page", offset: entry.location.offset, reason: "its checksum is wrong"))
            }
        }
    }

    private func zero(_ buffer: UnsafeMutableRawBufferPointer, from start: Int, to end: Int) {
        if start < end { UnsafeMutableRawBufferPointer(rebasing: buffer[start..<end]).initializeMemory(as: UInt8.self, repeating: 0) }
    }
}
