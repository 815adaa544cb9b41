/// What a walk over everything that streams refer to tells whoever walks.
protocol WalkVisitor {
    /// Stored bytes that something refers to and that the walk has read: an anchor, a node, a commit block.
    mutating func visit(_ location: PageLocation, _ what: WalkContext.Thing, _ context: WalkContext) throws(StoreError)
    /// Stored bytes that are not looked at otherwise, with their checksum: a piece of a state, a name, a page of history.
    mutating func visit(bytes: DataReference, _ what: WalkContext.Thing, _ context: WalkContext) throws(StoreError)
    /// Pages that a leaf of a table names.
    mutating func visit(pages: [TreeEntry], _ context: WalkContext) throws(StoreError)
    /// A part of a stream cannot be read; throws to end the walk, else it goes on with what can.
    mutating func failed(_ error: StoreError, _ context: WalkContext) throws(StoreError)
    /// A checkpoint has been walked.
    mutating func finished(_ context: WalkContext) throws(StoreError)
}

/// Where a walk is.
struct WalkContext: Sendable {
    /// Kinds of things that are referred to.
    enum Thing: String, Sendable {
        case anchor, history, name, table, state
        case commit = "commit block"
        case next = "block of the next commit"
    }
    var stream: String
    var slot: UInt32
    /// Nil while the history itself is walked.
    var checkpoint: UInt64?
}

/// Walks over streams: anchor, history, log, commits, states, tables; tables that several checkpoints share, once.
struct StreamWalker {
    private let identity: StoreIdentity
    private let source: NodeSource
    /// Roots of trees that have been walked.
    private var walked: Set<DataReference> = []
    /// Commits that have been walked, by their place and checksum.
    private var commits: Set<DataReference> = []
    /// Where each stream was when it was walked last.
    private(set) var ends: [UInt32: End] = [:]

    /// The end of a stream's log at a moment.
    struct End: Hashable {
        var record: SlotRecord
        /// Where the commit after the last will be, its sequence, and what it will follow.
        var next: UInt64
        var sequence: UInt64
        var checksum: Checksum
    }

    /// - Parameter source: without nodes that were read before, if the disk is to be looked at.
    init(identity: StoreIdentity, source: NodeSource) {
        self.identity = identity
        self.source = source
    }

    /// Trees and commits walked so far.
    var tableCount: Int { walked.count }
    var commitCount: Int { commits.count }

    /// Walks over a stream; what has been walked before is passed over.
    mutating func walk<Visitor: WalkVisitor>(
        _ record: SlotRecord, slot: UInt32, _ visitor: inout Visitor
    ) throws(StoreError) {
        var context = WalkContext(stream: record.name, slot: slot)
        var state: StreamState
        do throws(StoreError) { state = try StreamState(record, store: identity, source: source) } catch {
            try visitor.failed(error.inStream(record.name), context)
            return
        }
        try visitor.visit(record.anchor.location, .anchor, context)
        try visit(block: state.next, .next, context, &visitor)
        ends[slot] = End(record: record, next: state.next, sequence: state.lastSequence, checksum: state.lastChecksum)
        try tree(state.anchor.history, .history, context, &visitor) { _, _ throws(StoreError) in }
        try tree(state.anchor.names, .name, context, &visitor) { _, _ throws(StoreError) in }
        // The newest first: what several checkpoints need is met where it will be needed longest.
        for block in state.tail.reversed() { try commit(block, &context, &visitor, isTail: true) }
        do throws(StoreError) {
            for entry in try state.history.all().reversed() { try walk(entry, of: record, &context, &visitor) }
        } catch {
            context.checkpoint = nil
            try visitor.failed(error.inStream(record.name), context)
        }
    }

    /// Whether a stream has more than it had when it was walked: another anchor, or another commit.
    func hasGrown(_ record: SlotRecord, slot: UInt32) throws(StoreError) -> Bool {
        guard let end = ends[slot], end.record.stream == record.stream, end.record.anchor == record.anchor else { return true }
        let wanted = CommitBlock.Expectation(
            store: identity, stream: record.stream, sequence: end.sequence &+ 1, offset: end.next, previous: end.checksum, checksum: nil)
        do throws(StoreError) { _ = try StreamState.commit(wanted, source: source) } catch {
            if case .damaged = error { return false }
            throw error
        }
        return true
    }

    private mutating func walk<Visitor: WalkVisitor>(
        _ entry: CheckpointEntry, of record: SlotRecord, _ context: inout WalkContext, _ visitor: inout Visitor
    ) throws(StoreError) {
        context.checkpoint = entry.number
        if let place = PageLocation(offset: entry.offset, length: StoreFormat.blockBytes),
            commits.contains(DataReference(location: place, checksum: entry.checksum))
        {
            return
        }
        let wanted = CommitBlock.Expectation(
            store: identity, stream: record.stream, sequence: entry.sequence, offset: entry.offset, previous: nil,
            checksum: entry.checksum)
        let block: CommitBlock
        do throws(StoreError) { block = try StreamState.commit(wanted, source: source) } catch {
            try visitor.failed(error.inStream(record.name, number: entry.number), context)
            return
        }
        try commit(block, &context, &visitor, isTail: false, checksum: entry.checksum)
    }

    /// - Parameter isTail: behind the anchor: recovery may want to verify it, and then needs what only its own epoch refers to.
    private mutating func commit<Visitor: WalkVisitor>(
        _ block: CommitBlock, _ context: inout WalkContext, _ visitor: inout Visitor, isTail: Bool, checksum: Checksum? = nil
    ) throws(StoreError) {
        context.checkpoint = block.number
        try visit(block: block.offset, .commit, context, &visitor)
        let here = context
        func pages(_ entries: [TreeEntry], _ visitor: inout Visitor) throws(StoreError) { try visitor.visit(pages: entries, here) }
        for table in block.chain + (isTail ? [block.delta] : []) { try tree(table, .table, context, &visitor, leaf: pages) }
        try tree(block.state, .state, context, &visitor) { _, _ throws(StoreError) in }
        if let checksum, let place = PageLocation(offset: block.offset, length: StoreFormat.blockBytes) {
            commits.insert(DataReference(location: place, checksum: checksum))
        }
        if !isTail { try visitor.finished(context) }
    }

    /// Walks over a tree, unless it has been walked.
    ///
    /// - Parameter leaf: gets the entries of each leaf; those of all trees but tables are stored things themselves.
    private mutating func tree<Visitor: WalkVisitor>(
        _ reference: TreeReference, _ thing: WalkContext.Thing, _ context: WalkContext, _ visitor: inout Visitor,
        leaf: ([TreeEntry], inout Visitor) throws(StoreError) -> Void
    ) throws(StoreError) {
        guard reference.height > 0, !walked.contains(reference.root) else { return }
        do throws(StoreError) {
            try Tree(reference: reference, source: source).forEachNode { place, height, entries throws(StoreError) in
                try visitor.visit(place.location, thing, context)
                guard height == 0 else { return true }
                if thing == .table {
                    try leaf(entries, &visitor)
                } else {
                    for entry in entries { try visitor.visit(bytes: entry.reference, thing, context) }
                }
                return true
            }
        } catch {
            try visitor.failed(error.inStream(context.stream, number: context.checkpoint), context)
            return
        }
        walked.insert(reference.root)
    }

    private func visit<Visitor: WalkVisitor>(
        block offset: UInt64, _ thing: WalkContext.Thing, _ context: WalkContext, _ visitor: inout Visitor
    ) throws(StoreError) {
        guard let place = PageLocation(offset: offset, length: StoreFormat.blockBytes) else {
            try visitor.failed(
                .damaged(
                    .init(
                        thing.rawValue, stream: context.stream, number: context.checkpoint, offset: offset, reason: "it is no block's place"
                    )),
                context)
            return
        }
        try visitor.visit(place, thing, context)
    }
}
