/// Reads stored pages, raw or compressed, and checks them.
struct PageReader: Sendable {
    let source: NodeSource

    /// Fills a page's 4096 bytes.
    ///
    /// - Throws: `StoreError.damaged` when they are not what the entry says.
    func read(_ entry: TreeEntry, into page: UnsafeMutableRawBufferPointer) throws(StoreError) {
        precondition(page.count == StoreFormat.blockBytes, "a page has 4096 bytes")
        guard !entry.location.isZero else {
            page.initializeMemory(as: UInt8.self, repeating: 0)
            return
        }
        try fill(entry.location, into: page)
        guard Checksum(of: UnsafeRawBufferPointer(page)) == entry.checksum else {
            throw .damaged(.init("page", offset: entry.location.offset, reason: "its checksum is wrong"))
        }
    }

    /// Fills a page without checking what it is.
    func fill(_ location: PageLocation, into page: UnsafeMutableRawBufferPointer) throws(StoreError) {
        let length = location.length
        if length == StoreFormat.blockBytes {
            try source.disk.load(at: location.offset, into: page, what: "page")
            return
        }
        guard length < StoreFormat.blockBytes else {
            throw .damaged(.init("page", offset: location.offset, reason: "a reference to \(length) bytes"))
        }
        let stored = UnsafeMutableRawBufferPointer.allocate(byteCount: length, alignment: 64)
        defer { stored.deallocate() }
        try source.disk.load(at: location.offset, into: stored, what: "page")
        guard Compression.decompress(UnsafeRawBufferPointer(stored), into: page) else {
            throw .damaged(.init("page", offset: location.offset, reason: "it cannot be decompressed"))
        }
    }

    /// Reads a page only to check it.
    func verify(_ entry: TreeEntry) throws(StoreError) {
        let page = UnsafeMutableRawBufferPointer.allocate(byteCount: StoreFormat.blockBytes, alignment: StoreFormat.blockBytes)
        defer { page.deallocate() }
        try read(entry, into: page)
    }
}
