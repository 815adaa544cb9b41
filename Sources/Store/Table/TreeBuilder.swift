/// Builds a tree from entries that come in order; nodes are placed as soon as they are full.
struct TreeBuilder {
    /// Puts some bytes (at most a block) somewhere and says where.
    typealias Place = (UnsafeRawBufferPointer) throws(StoreError) -> PageLocation

    /// Entries of the nodes still being filled, by height: leaves first.
    private var open: [[TreeEntry]] = [[]]
    private var entryCount: UInt64 = 0
    private let place: Place

    init(place: @escaping Place) { self.place = place }

    /// Adds the next entry; keys must ascend.
    mutating func add(_ entry: TreeEntry) throws(StoreError) {
        entryCount += 1
        try add(entry, height: 0)
    }

    private mutating func add(_ entry: TreeEntry, height: Int) throws(StoreError) {
        if open[height].count == StoreFormat.chunkEntries { try closeNode(height: height) }
        if let last = open[height].last { precondition(last.key < entry.key, "entries of a tree must ascend") }
        open[height].append(entry)
    }

    private mutating func closeNode(height: Int) throws(StoreError) {
        let entries = open[height]
        let reference = try placeNode(entries)
        open[height].removeAll(keepingCapacity: true)
        if open.count == height + 1 { open.append([]) }
        try add(TreeEntry(key: entries[0].key, reference), height: height + 1)
    }

    private func placeNode(_ entries: [TreeEntry]) throws(StoreError) -> DataReference {
        let count = entries.count * StoreFormat.entryBytes
        return try withUnsafeTemporaryAllocation(byteCount: count, alignment: 16) { buffer in
            for (index, entry) in entries.enumerated() { entry.store(to: buffer, at: index * StoreFormat.entryBytes) }
            let bytes = UnsafeRawBufferPointer(buffer)
            return Result { () throws(StoreError) in
                DataReference(location: try place(bytes), checksum: Checksum(of: bytes))
            }
        }.get()
    }

    /// Closes what is open and gives the tree.
    mutating func finish(level: Int = 0) throws(StoreError) -> TreeReference {
        guard entryCount > 0 else {
            var empty = TreeReference.empty
            empty.level = level
            return empty
        }
        var height = 0
        while true {
            if height + 1 == open.count {
                let root = try placeNode(open[height])
                return TreeReference(root: root, entryCount: entryCount, height: height + 1, level: level)
            }
            if !open[height].isEmpty { try closeNode(height: height) }
            height += 1
        }
    }
}
