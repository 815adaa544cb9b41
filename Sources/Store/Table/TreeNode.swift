/// A node of a tree, read and checked.
final class TreeNode: Sendable {
    let entries: [TreeEntry]

    /// Decodes a node whose checksum has been verified.
    ///
    /// - Parameters:
    ///   - lower: the first key must be this, if given.
    ///   - upper: all keys must be below this, if given.
    init(_ bytes: UnsafeRawBufferPointer, place: UInt64, lower: UInt64?, upper: UInt64?) throws(StoreError) {
        func damage(_ reason: String) -> StoreError { .damaged(.init("table", offset: place, reason: reason)) }
        let count = bytes.count / StoreFormat.entryBytes
        guard count > 0, count <= StoreFormat.chunkEntries, bytes.count % StoreFormat.entryBytes == 0 else {
            throw damage("a node of \(bytes.count) bytes")
        }
        var entries: [TreeEntry] = []
        entries.reserveCapacity(count)
        for index in 0..<count {
            let entry = TreeEntry(unchecked: bytes, at: index * StoreFormat.entryBytes)
            if let last = entries.last, last.key >= entry.key { throw damage("entries are out of order") }
            entries.append(entry)
        }
        if let lower, entries[0].key != lower { throw damage("it begins with another key than the node above says") }
        if let upper, entries[count - 1].key >= upper { throw damage("it has keys that belong into its neighbour") }
        self.entries = entries
    }

    /// The entry with exactly this key.
    func find(_ key: UInt64) -> TreeEntry? {
        let index = firstIndex(from: key)
        return index < entries.count && entries[index].key == key ? entries[index] : nil
    }

    /// The index of the first entry with this key or a later one.
    func firstIndex(from key: UInt64) -> Int {
        var low = 0
        var high = entries.count
        while low < high {
            let middle = (low + high) / 2
            if entries[middle].key < key { low = middle + 1 } else { high = middle }
        }
        return low
    }

    /// The index of the entry whose subtree a key belongs into; nil when it is before the first.
    func childIndex(for key: UInt64) -> Int? {
        let after = key == .max ? entries.count : firstIndex(from: key + 1)
        return after == 0 ? nil : after - 1
    }
}
