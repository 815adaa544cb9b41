/// Goes through several tables at once in the order of their keys; of equal keys the newest table's entry counts.
struct TableMerger {
    /// Entries that are not on the disk yet; newer than all tables.
    private let own: [TreeEntry]
    private var ownIndex = 0
    /// Newest first.
    private var cursors: [TreeCursor]
    /// The entry each cursor stands on.
    private var heads: [TreeEntry?]

    /// - Parameters:
    ///   - own: in order.
    ///   - tables: newest first.
    init(own: [TreeEntry] = [], _ tables: [Tree], from key: UInt64 = 0) throws(StoreError) {
        self.own = own
        cursors = []
        for table in tables { cursors.append(try table.cursor(from: key)) }
        heads = cursors.map(\.entry)
    }

    /// The next entry, also one that hides older ones by a zero page; nil behind the last.
    mutating func next() throws(StoreError) -> TreeEntry? {
        var best: TreeEntry? = ownIndex < own.count ? own[ownIndex] : nil
        for case let entry? in heads where best.map({ entry.key < $0.key }) ?? true { best = entry }
        guard let best else { return nil }
        if ownIndex < own.count, own[ownIndex].key == best.key { ownIndex += 1 }
        for index in heads.indices where heads[index]?.key == best.key {
            try cursors[index].advance()
            heads[index] = cursors[index].entry
        }
        return best
    }
}
