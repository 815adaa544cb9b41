internal import CLinux
internal import Linux
internal import Synchronization

/// Finds what no stream refers to and frees it, while writers write on.
///
/// Why nothing is lost, step by step:
/// 1. With the gate closed for a moment, marking begins: from then on writers mark what they allocate and what they share. The
///    collection leaves its stamp, so that shared memory which is not in use now will not believe its hints (`Ground.catchUp`).
/// 2. Slots are read, *then* the disk is flushed: no power cut takes a stream back behind what was read. A slot whose write-back failed
///    before that, and was told to somebody else, is read past the cache: what the disk has of it is marked, too, and it is written anew.
/// 3. Everything streams refer to is marked. Hints to blocks without a mark are removed from the index; those a writer has just found it
///    has marked, or will before it leaves the gate.
/// 4. With the gate closed again, streams that have grown or appeared are walked once more, and the writers that live now are noted.
///    From here on nobody can come to refer to a block without a mark, except to one given out of a segment it owns.
/// 5. Unmarked blocks of segments no living writer owns are discarded and become free, under the allocation lock.
/// What cannot be read may refer to anything that was in use when that was found out: all of that is kept (`keepWhatIsInUse`).
///
/// A collector that dies leaves nothing but marks behind, which the next one clears.
struct Collector {
    /// How often the gate is tried.
    private static let gateAttemptsMax = 60
    /// For how long writers are held up each time: first, and at most, when epochs take long.
    private static let holdMicrosecondsMin: UInt32 = 20_000
    private static let holdMicrosecondsMax: UInt32 = 320_000
    private static let gateTryMicroseconds: UInt32 = 500

    let ground: Ground
    let progress: (StoreProgress) -> Void
    var statistics = CollectionStatistics()

    init(_ ground: Ground, progress: @escaping (StoreProgress) -> Void) {
        self.ground = ground
        self.progress = progress
    }

    /// Runs a collection.
    ///
    /// - Throws: `StoreError.busy` when another one runs or the gate does not close; then nothing has been freed.
    mutating func run() throws(StoreError) -> CollectionStatistics {
        let locks = try takeLocks()
        defer { withExtendedLifetime(locks) {} }
        try allocate(kept: false)
        // Before the slots are read, so that it hears of each write since then that fails.
        let flusher = try ground.disk.flusher()
        let marking = ground.memory.word(.marking)
        let wasMarking = marking.pointee.load(ordering: .acquiring) != 0
        if !wasMarking { ground.marks.clear() }
        try withGateClosed { () throws(StoreError) in
            // Left over from a collector that died: somebody may be marking until the gate is closed.
            if wasMarking { ground.marks.clear() }
            try ground.leaveStamp()
            marking.pointee.store(1, ordering: .sequentiallyConsistent)
        }
        defer { marking.pointee.store(0, ordering: .sequentiallyConsistent) }
        let (live, unreadable) = try mark(flusher)
        try keepWhatIsInUse(unreadable, live)
        try sweep(live)
        return statistics
    }

    private func allocate(kept: Bool) throws(StoreError) {
        guard let file = ground.memory.file else { return }
        do throws(SystemError) { try file.allocateMarks(ground.memory.shape, kept: kept) } catch { throw StoreError(error) }
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

    /// Marks everything in use; returns the writers that lived when that was complete, and what could not be read.
    private mutating func mark(
        _ flusher: any DiskFlusher
    ) throws(StoreError) -> (live: Set<SegmentEntry.Owner>, unreadable: [CollectionMarker.Unreadable]) {
        var walker = StreamWalker(identity: ground.identity, source: NodeSource(disk: ground.disk, nodesMax: 1024))
        var marker = CollectionMarker(ground: ground)
        // What a power cut would bring back is kept as well, until the disk has what is read.
        let behind = try ground.slotsBehind()
        for slot in behind { try ground.rewrite(slot: slot.index) }
        let slots = try ground.allSlots()
        try flusher.settle()
        for slot in behind { try walker.walk(slot.record, slot: slot.index, &marker) }
        for (done, slot) in slots.found.enumerated() {
            progress(.streams(done: done, of: slots.found.count))
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
        progress(.streams(done: slots.found.count, of: slots.found.count))
        marker.settle()
        tell(walker, marker, live)
        return (live, marker.unreadable)
    }

    private mutating func tell(_ walker: StreamWalker, _ marker: CollectionMarker, _ live: Set<SegmentEntry.Owner>) {
        statistics.streams = walker.ends.count
        statistics.checkpoints = marker.checkpoints
        statistics.tables = walker.tableCount
        for found in marker.unreadable where !statistics.unreadable.contains(where: { $0.name == found.stream }) {
            statistics.unreadable.append(UnreadableStream(name: found.stream, reason: "\(found.error)"))
        }
        let names = Dictionary(walker.ends.map { ($0.key, $0.value.record.name) }, uniquingKeysWith: { $1 })
        statistics.spaces = names.sorted { $0.key < $1.key }.map { slot, name in
            let parts = (marker.blocks[slot] ?? [:]).sorted { $0.key > $1.key }
            return StreamSpace(
                name: name, isWritten: live.contains { $0.slot == slot },
                parts: parts.map { StreamSpace.Part(number: $0.key, bytes: $0.value * UInt64(StoreFormat.blockBytes)) })
        }
    }

    private func walkGrown(_ walker: inout StreamWalker, _ marker: inout CollectionMarker) throws(StoreError) {
        let slots = try ground.allSlots()
        for slot in slots.damaged {
            marker.note(.init(slot: slot.index, stream: "slot \(slot.index)", error: slot.error, isHead: true))
        }
        for slot in slots.found where try walker.hasGrown(slot.record, slot: slot.index) {
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

    /// Keeps what is in use now, as long as something cannot be read that may refer to it: what is allocated later, it does not refer to.
    ///
    /// So the store goes on, at the price of what was garbage at that moment, until the stream can be read again or is removed. Where
    /// more becomes unreadable, and where the end of a stream is that somebody writes, what is in use by then is kept, too.
    private mutating func keepWhatIsInUse(
        _ unreadable: [CollectionMarker.Unreadable], _ live: Set<SegmentEntry.Owner>
    ) throws(StoreError) {
        let known = ground.memory.word(.unreadable)
        let before = known.pointee.load(ordering: .acquiring)
        guard !unreadable.isEmpty else {
            if before != 0 { ground.kept.clear() }
            known.pointee.store(0, ordering: .releasing)
            return
        }
        let names = unreadable.map { "\($0.slot) \($0.error)" }.sorted().joined(separator: "\n")
        let now = Array(names.utf8).withUnsafeBytes { Checksum(of: $0) }.low | 1
        let grows = unreadable.contains { found in found.isHead && live.contains { $0.slot == found.slot } }
        guard now != before || grows else { return }
        try allocate(kept: true)
        if before == 0 { ground.kept.clear() }
        var first: UInt32 = 0
        while first < ground.layout.segmentCount {
            let range = first..<min(first + SegmentTable.batch, ground.layout.segmentCount)
            for (segment, entry) in zip(range, try lockedEntries(range)) { ground.kept.mark(entry?.used ?? .all, of: segment) }
            first = range.upperBound
        }
        known.pointee.store(now, ordering: .releasing)
    }

    /// Runs something while no epoch is in flight.
    ///
    /// Who waits at the turnstile is let in after a while, and the next try holds longer: epochs that take long on a busy disk end within
    /// it, and one very long one does not hold up all others.
    private func withGateClosed<Result>(_ body: () throws(StoreError) -> Result) throws(StoreError) -> Result {
        var hold = Self.holdMicrosecondsMin
        for attempt in 0..<Self.gateAttemptsMax {
            if let locks = try closeGate(hold) {
                defer { withExtendedLifetime(locks) {} }
                return try body()
            }
            progress(.gate(tries: attempt + 1, of: Self.gateAttemptsMax))
            usleep(2 * hold)
            hold = min(2 * hold, Self.holdMicrosecondsMax)
        }
        throw .busy(store: ground.disk.name, reason: "an epoch has been open for long. Try again later")
    }

    private func closeGate(_ hold: UInt32) throws(StoreError) -> [any DiskLockHandle]? {
        do throws(DiskError) {
            guard let turnstile = try ground.disk.lock(.turnstile, exclusive: true, wait: true) else { return nil }
            for _ in 0..<hold / Self.gateTryMicroseconds {
                if let gate = try ground.disk.lock(.gate, exclusive: true, wait: false) { return [turnstile, gate] }
                usleep(Self.gateTryMicroseconds)
            }
            return nil
        } catch { throw .disk(error) }
    }

    /// Under the lock, since an entry that is read while it is written looks damaged.
    func lockedEntries(_ range: Range<UInt32>) throws(StoreError) -> [SegmentEntry?] {
        let lock = try ground.table.lock(exclusive: false)
        defer { withExtendedLifetime(lock) {} }
        return try ground.table.entries(range)
    }
}

extension Store {
    /// Frees what no checkpoint needs any more; writers write on meanwhile.
    ///
    /// What cannot be read is named in the statistics; all that it may refer to is kept.
    ///
    /// - Throws: `StoreError.busy` when another process collects.
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
