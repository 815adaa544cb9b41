/// Marks what streams refer to, and counts it for the checkpoints that need it.
struct CollectionMarker: WalkVisitor {
    let ground: Ground
    var checkpoints = 0
    /// Blocks marked for each checkpoint of a slot's stream; what belongs to no checkpoint counts for number 0.
    var blocks: [UInt32: [UInt64: UInt64]] = [:]
    /// What cannot be read: it may refer to anything.
    private(set) var unreadable: [Unreadable] = []
    /// The newest checkpoint of each slot's stream when it was walked first: what came later is small, and counts for that one.
    private var newest: [UInt32: UInt64] = [:]
    private var current: (slot: UInt32, checkpoint: UInt64, blocks: UInt64) = (0, 0, 0)

    /// Something that a stream needs and that cannot be read.
    struct Unreadable {
        var slot: UInt32
        var stream: String
        var error: StoreError
        /// Whether it keeps what the stream will write from being found.
        var isHead: Bool
    }

    init(ground: Ground) { self.ground = ground }

    /// Notes what was counted for the checkpoint in hand.
    mutating func settle() {
        if current.blocks > 0 { blocks[current.slot, default: [:]][current.checkpoint, default: 0] += current.blocks }
        current.blocks = 0
    }

    mutating func mark(_ location: PageLocation, _ what: String, _ context: WalkContext) throws(StoreError) {
        guard !location.isZero else { return }
        guard let blocks = ground.layout.blocks(of: location) else {
            return try failed(
                .damaged(
                    .init(
                        what, stream: context.stream, number: context.checkpoint, offset: location.offset,
                        reason: "it lies outside the store")), context)
        }
        let added = ground.marks.mark(blocks)
        let first = context.checkpoint.map { newest[context.slot, default: $0] } ?? 0
        let checkpoint = min(context.checkpoint ?? 0, first)
        if current.slot != context.slot || current.checkpoint != checkpoint {
            settle()
            current = (context.slot, checkpoint, 0)
            if checkpoint > 0, newest[context.slot] == nil { newest[context.slot] = checkpoint }
        }
        current.blocks += added
    }

    mutating func visit(_ location: PageLocation, _ what: WalkContext.Thing, _ context: WalkContext) throws(StoreError) {
        try mark(location, what.rawValue, context)
    }

    mutating func visit(bytes: DataReference, _ what: WalkContext.Thing, _ context: WalkContext) throws(StoreError) {
        try mark(bytes.location, what.rawValue, context)
    }

    mutating func visit(pages: [TreeEntry], _ context: WalkContext) throws(StoreError) {
        for entry in pages { try mark(entry.location, "page", context) }
    }

    mutating func failed(_ error: StoreError, _ context: WalkContext) throws(StoreError) {
        guard error.isDamage else { throw error }
        note(Unreadable(slot: context.slot, stream: context.stream, error: error, isHead: context.checkpoint == nil))
    }

    /// Takes note of something that cannot be read, once.
    mutating func note(_ found: Unreadable) {
        guard !unreadable.contains(where: { $0.slot == found.slot && $0.error == found.error }) else { return }
        unreadable.append(found)
    }

    mutating func finished(_ context: WalkContext) { checkpoints += 1 }
}
