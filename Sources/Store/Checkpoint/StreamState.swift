/// A stream as it is on the disk: its anchor, and what its log has behind it.
struct StreamState: Sendable {
    /// Commits that are followed behind an anchor; a writer anchors every 64.
    static let tailMax: UInt64 = 1 << 16

    var record: SlotRecord
    var anchor: Anchor
    var history: History
    /// The newest commit; nil for a stream without any.
    var last: CommitBlock?
    var lastChecksum: Checksum
    /// Where the next commit will lie.
    var next: UInt64
    var lastSequence: UInt64
    var lastNumber: UInt64
    /// Commits behind the anchor; the last of them that were not known to be durable.
    var tail: [CommitBlock] = []
    var unsettled: [CommitBlock] = []

    /// Reads the anchor and follows the log; ends it where a commit does not check.
    ///
    /// - Throws: `StoreError.damaged` when the anchor, or what it refers to, is not what it should be.
    init(_ record: SlotRecord, store: StoreIdentity, source: NodeSource) throws(StoreError) {
        self.record = record
        let anchor = try source.withBytes(of: record.anchor, what: "anchor") { bytes throws(StoreError) in
            try Anchor(bytes, stream: record.stream, place: record.anchor.location.offset)
        }
        self.anchor = anchor
        history = try History(source: source, anchor: anchor)
        lastSequence = anchor.lastSequence
        lastNumber = anchor.lastNumber
        lastChecksum = anchor.lastChecksum
        next = anchor.next
        var found: [(CommitBlock, Checksum)] = []
        var place = anchor.next
        var previous = anchor.lastChecksum
        while UInt64(found.count) < Self.tailMax, let sequence = anchor.lastSequence.addingOrNil(UInt64(found.count) + 1) {
            let wanted = CommitBlock.Expectation(
                store: store, stream: record.stream, sequence: sequence, offset: place, previous: previous, checksum: nil)
            guard let (block, checksum) = try Self.readCommit(wanted, source: source), block.number > found.last?.0.number ?? lastNumber
            else { break }
            found.append((block, checksum))
            place = block.next
            previous = checksum
        }
        let durable = max(anchor.lastSequence, found.last?.0.durableSequence ?? 0)
        for (block, checksum) in found {
            if block.sequence > durable {
                guard try CommitVerification(block: block, source: source).holds() else { break }
                unsettled.append(block)
            }
            try take(block, checksum)
        }
        if last == nil, anchor.lastSequence > 0 {
            let wanted = CommitBlock.Expectation(
                store: store, stream: record.stream, sequence: anchor.lastSequence, offset: anchor.lastOffset, previous: nil,
                checksum: anchor.lastChecksum)
            last = try Self.commit(wanted, source: source)
        }
    }

    /// A stream that is being made.
    init(empty record: SlotRecord, anchor: Anchor, source: NodeSource) throws(StoreError) {
        self.record = record
        self.anchor = anchor
        history = try History(source: source)
        next = anchor.next
        lastSequence = 0
        lastNumber = 0
        lastChecksum = anchor.lastChecksum
    }

    private mutating func take(_ block: CommitBlock, _ checksum: Checksum) throws(StoreError) {
        try history.append(CheckpointEntry(block, checksum: checksum))
        tail.append(block)
        last = block
        lastChecksum = checksum
        lastSequence = block.sequence
        lastNumber = block.number
        next = block.next
    }

    /// The commit at a place, nil when there is none that fits there: the end of a log.
    private static func readCommit(_ wanted: CommitBlock.Expectation, source: NodeSource) throws(StoreError) -> (CommitBlock, Checksum)? {
        do throws(StoreError) {
            return try withBlock(wanted.offset, source: source) { bytes throws(StoreError) in
                try CommitBlock.decode(bytes, expecting: wanted)
            }
        } catch {
            if case .damaged = error { return nil }
            throw error
        }
    }

    /// The commit that a history entry or an anchor refers to.
    static func commit(_ wanted: CommitBlock.Expectation, source: NodeSource) throws(StoreError) -> CommitBlock {
        try withBlock(wanted.offset, source: source) { bytes throws(StoreError) in
            try CommitBlock.decode(bytes, expecting: wanted).0
        }
    }

    private static func withBlock<Result>(
        _ offset: UInt64, source: NodeSource, _ body: (UnsafeRawBufferPointer) throws(StoreError) -> Result
    ) throws(StoreError) -> Result {
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: StoreFormat.blockBytes, alignment: StoreFormat.blockBytes)
        defer { buffer.deallocate() }
        try source.disk.load(at: offset, into: buffer, what: "commit block")
        return try body(UnsafeRawBufferPointer(buffer))
    }
}

extension UInt64 {
    /// The sum, or nil when it does not fit.
    func addingOrNil(_ other: UInt64) -> UInt64? {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? nil : sum
    }
}
