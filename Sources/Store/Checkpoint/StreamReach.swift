/// Everything streams refer to, for whoever keeps or checks it: the collector and the scrub.
///
/// Each tree is visited once, however many checkpoints share it.
struct StreamReach {
    /// What a place holds.
    enum Kind: Sendable { case anchor, history, name, commit, nextCommit, table, page, state }

    /// Told of each place: what lies there, its checksum where it is one over exactly these bytes (a page's is over what it decompresses
    /// to), and the checkpoint that was being visited.
    typealias Visit = (Kind, PageLocation, Checksum?, UInt64?) throws(StoreError) -> Void

    private let identity: StoreIdentity
    private let source: NodeSource
    private var seen: Set<DataReference> = []

    /// - Parameter source: with few nodes to keep: nothing is visited twice.
    init(store identity: StoreIdentity, source: NodeSource) {
        self.identity = identity
        self.source = source
    }

    /// Visits all that a stream refers to, its checkpoints oldest first.
    ///
    /// - Throws: `StoreError`, from reading (then the rest of the stream is unknown and nothing must be freed) or from `visit`.
    mutating func visit(_ record: SlotRecord, _ visit: Visit) throws(StoreError) {
        do throws(StoreError) {
            try visit(.anchor, record.anchor.location, record.anchor.checksum, nil)
            var state = try StreamState(record, store: identity, source: source)
            try visitBlock(.nextCommit, state.anchor.next, visit, nil)
            try visitBlock(.nextCommit, state.next, visit, nil)
            try visitTree(state.anchor.history, .history, .history, nil, visit)
            try visitTree(state.anchor.names, .name, .name, nil, visit)
            for entry in try state.history.all() { try visitCheckpoint(entry, record, visit) }
        } catch {
            throw error.inStream(record.name)
        }
    }

    private mutating func visitCheckpoint(_ entry: CheckpointEntry, _ record: SlotRecord, _ visit: Visit) throws(StoreError) {
        do throws(StoreError) {
            try visitBlock(.commit, entry.offset, visit, entry.number)
            let wanted = CommitBlock.Expectation(
                store: identity, stream: record.stream, sequence: entry.sequence, offset: entry.offset, previous: nil,
                checksum: entry.checksum)
            let block = try StreamState.commit(wanted, source: source)
            try visitTree(block.state, .state, .state, entry.number, visit)
            try visitTree(block.delta, .table, .page, entry.number, visit)
            for table in block.chain { try visitTree(table, .table, .page, entry.number, visit) }
        } catch {
            throw error.inStream(record.name, number: entry.number)
        }
    }

    private func visitBlock(_ kind: Kind, _ offset: UInt64, _ visit: Visit, _ number: UInt64?) throws(StoreError) {
        guard let location = PageLocation(offset: offset, length: StoreFormat.blockBytes) else {
            throw .damaged(.init("commit block", offset: offset, reason: "its place is not possible"))
        }
        try visit(kind, location, nil, number)
    }

    private mutating func visitTree(
        _ tree: TreeReference, _ nodes: Kind, _ leaves: Kind, _ number: UInt64?, _ visit: Visit
    ) throws(StoreError) {
        guard tree.height > 0, seen.insert(tree.root).inserted else { return }
        try Tree(reference: tree, source: source).forEachNode { place, height, entries throws(StoreError) in
            try visit(nodes, place.location, place.checksum, number)
            guard height == 0 else { return true }
            for entry in entries where !entry.location.isZero { try visit(leaves, entry.location, entry.checksum, number) }
            return true
        }
    }
}
