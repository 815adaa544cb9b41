internal import CLinux
internal import Linux
internal import Synchronization

/// Finds what no stream refers to and frees it, while writers write on.
///
/// Why nothing is lost, step by step:
/// 1. With the gate closed for a moment, marking begins: from then on writers mark what they allocate and what they share.
/// 2. Slots are read, *then* the disk is flushed: no power cut takes a stream back behind what was read.
/// 3. Everything streams refer to is marked. Hints to blocks without a mark are removed from the index; those a writer has just found it
///    has marked, or will before it leaves the gate.
/// 4. With the gate closed again, streams that have grown or appeared are walked once more, and the writers that live now are noted.
///    From here on nobody can come to refer to a block without a mark, except to one given out of a segment it owns.
/// 5. Unmarked blocks of segments no living writer owns are discarded and then become free.
///
/// A collector that dies leaves nothing but marks behind, which the next one clears.
struct Collector {
    /// Shorter runs of freed blocks are not discarded: they would cut the file into pieces.
    static let discardBlocksMin = 8
    /// How often the gate is tried, and for how long writers are held up each time.
    var gateAttemptsMax = 600
    private static let gateTries = 40
    private static let gateTryMicroseconds: UInt32 = 500
    private static let gatePauseMicroseconds: UInt32 = 50_000

    let ground: Ground
    let progress: (StoreProgress) -> Void
    private var statistics = CollectionStatistics()

    init(_ ground: Ground, progress: @escaping (StoreProgress) -> Void) {
        self.ground = ground
        self.progress = progress
    }

    private struct Marker: WalkVisitor {
        let ground: Ground
        var checkpoints = 0
        /// Blocks marked for each checkpoint of a slot's stream; what belongs to no checkpoint counts for number 0.
        var blocks: [UInt32: [UInt64: UInt64]] = [:]
        /// The newest checkpoint of each slot's stream when it was walked first: what came later is small, and counts for that one.
        private var newest: [UInt32: UInt64] = [:]
        private var current: (slot: UInt32, checkpoint: UInt64, blocks: UInt64) = (0, 0, 0)

        init(ground: Ground) { self.ground = ground }

        /// Notes what was counted for the checkpoint in hand.
        mutating func settle() {
            if current.blocks > 0 { blocks[current.slot, default: [:]][current.checkpoint, default: 0] += current.blocks }
            current.blocks = 0
        }

        mutating func mark(_ location: PageLocation, _ what: String, _ context: WalkContext) throws(StoreError) {
            guard !location.isZero else { return }
            guard let blocks = ground.layout.blocks(of: location) else {
                throw .damaged(
                    .init(
                        what, stream: context.stream, number: context.checkpoint, offset: location.offset,
                        reason: "it lies outside the store"))
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
        mutating func visit(_ location: PageLocation, _ thing: WalkContext.Thing, _ context: WalkContext) throws(StoreError) {
            try mark(location, thing.rawValue, context)
        }
        mutating func visit(bytes: DataReference, _ thing: WalkContext.Thing, _ context: WalkContext) throws(StoreError) {
            try mark(bytes.location, thing.rawValue, context)
        }
        mutating func visit(pages: [TreeEntry], _ context: WalkContext) throws(StoreError) {
            for entry in pages { try mark(entry.location, "page", context) }
        }
        // What cannot be read may refer to anything: nothing is freed.
        func failed(_ error: StoreError, _ context: WalkContext) throws(StoreError) { throw error }
        mutating func finished(_ context: WalkContext) { checkpoints += 1 }
    }

    /// Runs a collection.
    ///
    /// - Throws: `StoreError.busy` when another one runs or the gate does not close, `.damaged` when a stream cannot be read: then
    ///   nothing has been freed.
    mutating func run() throws(StoreError) -> CollectionStatistics {
        let locks = try takeLocks()
        defer { withExtendedLifetime(locks) {} }
        if let file = ground.memory.file {
            do throws(SystemError) { try file.allocateMarks(ground.memory.shape) } catch { throw StoreError(error) }
        }
        let marking = ground.memory.word(.marking)
        let wasMarking = marking.pointee.load(ordering: .acquiring) != 0
        if !wasMarking { ground.marks.clear() }
        try withGateClosed { () throws(StoreError) in
            // Left over from a collector that died: somebody may be marking until the gate is closed.
            if wasMarking { ground.marks.clear() }
            marking.pointee.store(1, ordering: .sequentiallyConsistent)
        }
        defer { marking.pointee.store(0, ordering: .sequentiallyConsistent) }
        let live = try mark()
        try sweep(live)
        return statistics
    }

    private func takeLocks() throws(StoreError) -> [any DiskLockHandle] {
        let disk = ground.disk
        do throws(DiskError) {
            guard let collection = try disk.lock(.collection, exclusive: true, wait: false) else {
                throw DiskError(.lock, disk.name, code: EBUSY)
            }
            guard let others = try disk.lock(.otherSharedMemories(than: ground.memory.number), exclusive: true, wait: false) else {
                throw DiskError(.lock, disk.name, code: EXDEV)
            }
            return [collection, others]
        } catch  where error.code == EBUSY {
            throw StoreError.busy(store: disk.name, reason: "another collection or scrub is running")
        } catch  where error.code == EXDEV {
            throw StoreError.busy(
                store: disk.name,
                reason: "somebody uses it with another runtime directory, so that it is not known what is in use. End that, or set the same"
            )
        } catch {
            throw StoreError.disk(error)
        }
    }

    // MARK: marking

    /// Marks everything in use; returns the writers that lived when that was complete.
    private mutating func mark() throws(StoreError) -> Set<SegmentEntry.Owner> {
        var walker = StreamWalker(identity: ground.identity, source: NodeSource(disk: ground.disk, nodesMax: 1024))
        var marker = Marker(ground: ground)
        let slots = try ground.allSlots()
        try ground.disk.settle()
        for (done, slot) in slots.enumerated() {
            progress(.streams(done: done, of: slots.count))
            try walker.walk(slot.record, slot: slot.index, &marker)
        }
        // Most of what has been written meanwhile, so that the gate need not be closed for long.
        try walkGrown(&walker, &marker)
        let marks = ground.marks
        let layout = ground.layout
        statistics.hintsRemoved =
            ground.index.purge { place in layout.blocks(of: place).map { $0.allSatisfy(marks.contains) } ?? false }.removed
        let live = try withGateClosed { () throws(StoreError) in
            try walkGrown(&walker, &marker)
            return try livingWriters()
        }
        progress(.streams(done: slots.count, of: slots.count))
        statistics.streams = walker.ends.count
        statistics.checkpoints = marker.checkpoints
        statistics.tables = walker.tableCount
        marker.settle()
        let names = Dictionary(walker.ends.map { ($0.key, $0.value.record.name) }, uniquingKeysWith: { $1 })
        statistics.spaces = names.sorted { $0.key < $1.key }.map { slot, name in
            let parts = (marker.blocks[slot] ?? [:]).sorted { $0.key > $1.key }
            return StreamSpace(
                name: name, isWritten: live.contains { $0.slot == slot },
                parts: parts.map { StreamSpace.Part(number: $0.key, bytes: $0.value * UInt64(StoreFormat.blockBytes)) })
        }
        return live
    }

    private func walkGrown(_ walker: inout StreamWalker, _ marker: inout Marker) throws(StoreError) {
        for slot in try ground.allSlots() where try walker.hasGrown(slot.record, slot: slot.index) {
            try walker.walk(slot.record, slot: slot.index, &marker)
        }
    }

    private func livingWriters() throws(StoreError) -> Set<SegmentEntry.Owner> {
        var live: Set<SegmentEntry.Owner> = []
        for slot in 0..<ground.slotCount {
            let session = ground.memory.session(ofSlot: slot).pointee.load(ordering: .acquiring)
            if session != 0, try ground.isWritten(slot: slot) { live.insert(SegmentEntry.Owner(slot: slot, session: session)) }
        }
        return live
    }

    /// Runs something while no epoch is in flight.
    ///
    /// Writers are kept waiting for 20 ms at most: rather than hold up all of them for one long epoch, the collector tries again.
    private func withGateClosed<Result>(_ body: () throws(StoreError) -> Result) throws(StoreError) -> Result {
        for _ in 0..<gateAttemptsMax {
            if let locks = try closeGate() {
                defer { withExtendedLifetime(locks) {} }
                return try body()
            }
            usleep(Self.gatePauseMicroseconds)
        }
        throw .busy(store: ground.disk.name, reason: "an epoch has been open for long. Try again later")
    }

    private func closeGate() throws(StoreError) -> [any DiskLockHandle]? {
        do throws(DiskError) {
            guard let turnstile = try ground.disk.lock(.turnstile, exclusive: true, wait: true) else { return nil }
            for _ in 0..<Self.gateTries {
                if let gate = try ground.disk.lock(.gate, exclusive: true, wait: false) { return [turnstile, gate] }
                usleep(Self.gateTryMicroseconds)
            }
            return nil
        } catch { throw .disk(error) }
    }

    // MARK: sweeping

    private mutating func sweep(_ live: Set<SegmentEntry.Owner>) throws(StoreError) {
        let count = ground.layout.segmentCount
        var first: UInt32 = 0
        while first < count {
            progress(.segments(done: Int(first), of: Int(count)))
            let range = first..<min(first + SegmentTable.batch, count)
            var condemned: [(segment: UInt32, owner: SegmentEntry.Owner?, blocks: SegmentBits, isDamaged: Bool)] = []
            for (segment, entry) in zip(range, try lockedEntries(range)) {
                guard entry?.used.isEmpty != true else { continue }
                if try isProtected(segment, entry, live) {
                    statistics.segmentsOwned += 1
                    continue
                }
                let marked = ground.marks.bits(of: segment)
                let used = entry?.used ?? .all
                statistics.blocksKept += UInt64(SegmentBits(words: used.words & marked.words).setCount)
                let blocks = SegmentBits(words: used.words & ~marked.words)
                if !blocks.isEmpty || entry == nil || entry?.owner != nil {
                    condemned.append((segment, entry?.owner, blocks, entry == nil))
                }
            }
            for item in condemned { try discard(item.blocks, of: item.segment) }
            try free(condemned)
            first = range.upperBound
        }
        progress(.segments(done: Int(count), of: Int(count)))
    }

    /// Under the lock, since an entry that is read while it is written looks damaged.
    private func lockedEntries(_ range: Range<UInt32>) throws(StoreError) -> [SegmentEntry?] {
        let lock = try ground.table.lock()
        defer { withExtendedLifetime(lock) {} }
        return try ground.table.entries(range)
    }

    /// Whether a writer owns a segment that lived when marking was complete, or lives now.
    private func isProtected(_ segment: UInt32, _ entry: SegmentEntry?, _ live: Set<SegmentEntry.Owner>) throws(StoreError) -> Bool {
        guard let entry else {
            guard let slot = ground.table.ownerHint(segment) else { return false }
            if live.contains(where: { $0.slot == slot }) { return true }
            return try ground.isWritten(slot: slot)
        }
        guard let owner = entry.owner else { return false }
        if live.contains(owner) { return true }
        guard owner.slot < ground.slotCount else { return false }
        guard ground.memory.session(ofSlot: owner.slot).pointee.load(ordering: .acquiring) == owner.session else { return false }
        return try ground.isWritten(slot: owner.slot)
    }

    /// Before they become free: as long as they are in use, nobody writes there.
    private mutating func discard(_ blocks: SegmentBits, of segment: UInt32) throws(StoreError) {
        var next = blocks.run(from: 0)
        while let run = next {
            if run.count >= Self.discardBlocksMin {
                let start = ground.layout.segmentOffset(segment) + UInt64(run.lowerBound * StoreFormat.blockBytes)
                do throws(DiskError) {
                    try ground.disk.discard(at: start, count: UInt64(run.count * StoreFormat.blockBytes))
                } catch { throw .disk(error) }
                statistics.blocksDiscarded += UInt64(run.count)
            }
            next = blocks.run(from: run.upperBound)
        }
    }

    private mutating func free(
        _ condemned: [(segment: UInt32, owner: SegmentEntry.Owner?, blocks: SegmentBits, isDamaged: Bool)]
    ) throws(StoreError) {
        guard !condemned.isEmpty else { return }
        let lock = try ground.table.lock()
        defer { withExtendedLifetime(lock) {} }
        for item in condemned {
            let found = try ground.table.entry(item.segment)
            // Claimed meanwhile: what was condemned stays in use until the next collection.
            guard (found == nil) == item.isDamaged, found?.owner == item.owner else { continue }
            var entry = found ?? SegmentEntry(used: .all)
            entry.generation &+= 1
            entry.owner = nil
            entry.used.words &= ~item.blocks.words
            try ground.table.write(entry, of: item.segment)
            statistics.blocksFreed += UInt64(item.blocks.setCount)
            if item.isDamaged { statistics.segmentsRepaired += 1 }
        }
    }
}

extension Store {
    /// Frees what no checkpoint needs any more; writers write on meanwhile.
    ///
    /// - Throws: `StoreError.busy` when another process collects, `.damaged` when a stream cannot be read: nothing is freed then.
    @discardableResult
    public func collect(progress: @escaping (StoreProgress) -> Void = { _ in }) throws(StoreError) -> CollectionStatistics {
        var collector = Collector(try wholeGround(), progress: progress)
        return try collector.run()
    }

    /// Whether some page of the store may have this checksum: a hint, to spare somebody from sending a page, and no promise.
    public func mayHold(_ checksum: Checksum) -> Bool { !ground.candidates(for: checksum).isEmpty }

    func wholeGround() throws(StoreError) -> Ground {
        guard let ground = ground as? Ground else { throw .invalid(what: "store", reason: "it has no ground that can be collected") }
        return ground
    }
}
