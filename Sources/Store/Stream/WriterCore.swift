/// What a stream's writer knows and does; used by one thread at a time.
///
/// By aspect: `+Pages` takes pages in, `+Commit` closes epochs, `+Anchor` writes history and slot.
final class WriterCore {
    /// Commits between two anchors.
    static let anchorEvery: UInt64 = 64
    /// Checkpoints from which on there is something to drop.
    static let reserveFrom: UInt64 = 8

    let ground: any StoreGround
    let slot: UInt32
    let source: NodeSource
    let layout: BlockLayout
    /// Its own, so that it hears of each write of its own that did not reach the disk, whoever else has been told.
    let flusher: any DiskFlusher
    let compression = Compression()
    let pages: PageReader
    /// For comparing a candidate with a page.
    let scratch = UnsafeMutableRawBufferPointer.allocate(byteCount: StoreFormat.blockBytes, alignment: StoreFormat.blockBytes)
    var options: WriterOptions
    var record: SlotRecord
    var anchor: Anchor
    var history: History
    var current = CurrentPages()
    /// The checkpoint the next epoch is made upon.
    var parent: CheckpointReference
    /// Its tables, newest first.
    var chain: [TreeReference]
    var lastSequence: UInt64
    var lastNumber: UInt64
    var lastChecksum: Checksum
    var lastOffset: UInt64
    var durableSequence: UInt64
    var durableNumber: UInt64
    /// Numbers that thinning passes over.
    let kept = KeptCheckpoints()
    var epoch: OpenEpoch?
    /// An anchor that has been written; the slot may refer to it after the next flush.
    var pendingAnchor: DataReference?
    /// Why nothing more is written.
    var broken: String?
    var isFinished = false

    /// - Parameters:
    ///   - state: the stream as it is on the disk, all of it durable.
    ///   - layout: whose head is where the stream goes on.
    ///   - flusher: opened before anything was written that this writer will call durable.
    init(
        ground: any StoreGround, slot: UInt32, state: StreamState, layout: BlockLayout, source: NodeSource, flusher: any DiskFlusher,
        options: WriterOptions
    ) {
        self.flusher = flusher
        self.ground = ground
        self.slot = slot
        self.layout = layout
        self.source = source
        self.options = options
        pages = PageReader(source: source)
        record = state.record
        anchor = state.anchor
        history = state.history
        lastSequence = state.lastSequence
        lastNumber = state.lastNumber
        lastChecksum = state.lastChecksum
        lastOffset = state.last?.offset ?? 0
        durableSequence = state.lastSequence
        durableNumber = state.lastNumber
        parent = CheckpointReference(stream: state.record.stream, number: state.lastNumber)
        chain = state.last?.chain ?? []
    }

    deinit { scratch.deallocate() }

    var trees: [Tree] { chain.map { Tree(reference: $0, source: source) } }

    /// Refuses to go on after a failure.
    func checkUsable() throws(StoreError) {
        if let broken { throw .writerBroken(stream: record.name, reason: broken) }
        if isFinished { throw .writerBroken(stream: record.name, reason: "it was finished") }
    }

    /// Runs what writes: a disk that fails leaves the stream in a state only a new opening can find out.
    ///
    /// A write that finds no room is no such failure, unless a commit block was left behind that could not be taken back.
    func guarded<Result>(_ body: () throws(StoreError) -> Result) throws(StoreError) -> Result {
        do throws(StoreError) { return try body() } catch {
            if case .disk = error, !error.isNoRoom || layout.isTainted { fail(error) }
            throw error.inStream(record.name)
        }
    }

    /// Gives up: what was written since the last flush may be lost, also pages that others have been told about.
    func fail(_ error: StoreError) {
        broken = "\(error)"
        ground.forgetHints()
    }

    /// Begins an epoch.
    func begin(_ number: UInt64) throws(StoreError) {
        try checkUsable()
        guard epoch == nil else { throw .invalid(what: "epoch \(number)", reason: "epoch \(epoch?.number ?? 0) is still open") }
        guard number > lastNumber else { throw .invalid(what: "epoch \(number)", reason: "\(record.name) has epoch \(lastNumber) already") }
        epoch = OpenEpoch(number: number)
        layout.beginEpoch()
    }

    /// Gives the open epoch another number.
    func renumber(_ number: UInt64) throws(StoreError) {
        try checkUsable()
        guard epoch != nil, number > lastNumber else {
            let reason = epoch == nil ? "none is open" : "\(record.name) has epoch \(lastNumber) already"
            throw .invalid(what: "epoch \(number)", reason: reason)
        }
        epoch?.number = number
    }

    /// Throws the open epoch away.
    func abandon() {
        guard let epoch else { return }
        for entry in epoch.entries { current.set(entry.key, to: CurrentPages.unknown) }
        layout.abandonEpoch()
        self.epoch = nil
    }

    /// Gives back all space but what is being filled, so that a collection can free what this writer has written and dropped.
    func yieldSpace() throws(StoreError) {
        try checkUsable()
        guard epoch == nil else { throw .invalid(what: "giving space back", reason: "epoch \(epoch?.number ?? 0) is still open") }
        try guarded { () throws(StoreError) in
            // An anchor that no slot refers to yet would look like nobody's.
            if pendingAnchor != nil {
                try flusher.settle()
                try flushed(flushTarget)
            }
            try layout.yield()
        }
    }

    /// The next epoch is made upon an earlier checkpoint of the stream, which a crash before it undoes.
    func rebase(on checkpoint: CheckpointReader) throws(StoreError) {
        try checkContinues(checkpoint)
        chain = checkpoint.block.chain
        parent = checkpoint.reference
        current.forget()
    }
}
