extension Store {
    /// Makes a stream and opens it for writing.
    ///
    /// Durable when it returns.
    ///
    /// - Parameters:
    ///   - origin: a checkpoint of any stream that it begins with: constant time, nothing is copied. It is its first checkpoint, with the
    ///     same number.
    ///   - time: nanoseconds since 1970.
    ///   - labels: at most 1024 bytes for the caller.
    /// - Throws: `StoreError.streamExists`, `.tooManyStreams`, or what the disk says.
    public func createStream(
        name: String, origin: CheckpointReference? = nil, time: UInt64, labels: [UInt8] = [], options: WriterOptions = WriterOptions()
    ) throws(StoreError) -> StreamWriter {
        try Self.check(name: name, of: "stream")
        guard labels.count <= Anchor.labelBytesMax else {
            throw .invalid(what: "labels", reason: "\(labels.count) bytes, at most \(Anchor.labelBytesMax) fit")
        }
        let slots = try ground.disk.take(.slots)
        defer { withExtendedLifetime(slots) {} }
        // From before the origin is looked at until the slot names it, the collector must not change phase.
        let gate = try ground.enterGate()
        defer { withExtendedLifetime(gate) {} }
        let taken = try ground.slots()
        if taken.contains(where: { $0.record.name == name }) { throw .streamExists(name) }
        let flusher = try ground.disk.flusher()
        let source = try origin.map { reference throws(StoreError) in try checkpoint(reference) }
        let (index, held) = try freeSlot(besides: Set(taken.map(\.index)).union(try ground.damagedSlots()))
        let layout = BlockLayout(disk: ground.disk, allocator: try ground.makeAllocator(forSlot: index))
        try layout.takeFirstHead()
        let stream = StreamIdentity(low: .random(in: 1 ... .max), high: .random(in: 0 ... .max))
        let none = DataReference(location: .zero, checksum: Checksum(low: 0, high: 0))
        var anchor = Anchor(stream: stream, created: time, next: layout.head, labels: labels)
        if let origin {
            anchor.originStream = origin.stream
            anchor.originNumber = origin.number
        }
        let state = try StreamState(
            empty: SlotRecord(stream: stream, name: name, anchor: none), anchor: anchor, source: nodes)
        let core = WriterCore(
            ground: ground, slot: index, state: state, layout: layout, source: nodes, flusher: flusher, options: options)
        if let source { try core.begin(with: source, time: time) }
        try core.anchorNow()
        return StreamWriter(core: core, held: held)
    }

    /// Opens a stream for writing: what a crash left unfinished is thrown away, the rest made durable.
    ///
    /// - Throws: `StoreError.noStream`, `.streamInUse`, or what reading meets.
    public func writer(for name: String, options: WriterOptions = WriterOptions()) throws(StoreError) -> StreamWriter {
        let found = try slot(named: name)
        guard let held = try ground.disk.tryLock(.stream(slot: found.index), wait: false) else { throw .streamInUse(name) }
        // Only now nobody else can change it.
        guard let record = try ground.slot(at: found.index), record.name == name else { throw .noStream(name) }
        // Before the log is read: whatever fails to reach the disk from here on, this writer hears of it.
        let flusher = try ground.disk.flusher()
        let state = try state(record)
        try Recovery(state: state, source: nodes).settle(flusher)
        let layout = BlockLayout(disk: ground.disk, allocator: try ground.makeAllocator(forSlot: found.index))
        layout.resume(head: state.next)
        let core = WriterCore(
            ground: ground, slot: found.index, state: state, layout: layout, source: nodes, flusher: flusher, options: options)
        return StreamWriter(core: core, held: held)
    }

    /// Removes a stream with all its checkpoints; the collector frees what nobody else needs.
    ///
    /// Durable when it returns.
    ///
    /// - Throws: `StoreError.noStream`, `.streamInUse`.
    public func removeStream(_ name: String) throws(StoreError) {
        let slots = try ground.disk.take(.slots)
        defer { withExtendedLifetime(slots) {} }
        let found = try slot(named: name)
        guard let held = try ground.disk.tryLock(.stream(slot: found.index), wait: false) else { throw .streamInUse(name) }
        defer { withExtendedLifetime(held) {} }
        let flusher = try ground.disk.flusher()
        try ground.write(nil, toSlot: found.index)
        try flusher.settle()
    }

    private func freeSlot(besides taken: Set<UInt32>) throws(StoreError) -> (UInt32, any DiskLockHandle) {
        for index in 0..<ground.slotCount where !taken.contains(index) {
            // A writer whose stream was removed may still hold it.
            if let held = try ground.disk.tryLock(.stream(slot: index), wait: false) { return (index, held) }
        }
        throw .tooManyStreams(store: ground.disk.name, max: ground.slotCount)
    }
}

extension WriterCore {
    /// A clone's first checkpoint: the origin's tables and state, referred to and not copied.
    func begin(with origin: CheckpointReader, time: UInt64) throws(StoreError) {
        layout.beginEpoch()
        let empty = TreeReference.empty
        try write(
            CommitBlock(
                stream: record.stream, sequence: 1, number: origin.number, parent: origin.number, parentStream: origin.reference.stream,
                time: time, offset: layout.head, next: try layout.takeNextHead(), previous: lastChecksum, durableSequence: 0, flags: 0,
                pageCount: 0, newPageCount: 0, writtenBytes: UInt64(StoreFormat.blockBytes), stateBytes: origin.block.stateBytes,
                state: origin.block.state, delta: empty, name: "", statistics: origin.statistics, chain: origin.block.chain))
    }
}
