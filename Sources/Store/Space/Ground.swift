internal import CLinux
internal import Synchronization

/// The lower half of an open store: superblock, slots, segments, index, marks.
final class Ground: StoreGround {
    let disk: any Disk
    let superblock: Superblock
    let memory: SharedMemory
    let table: SegmentTable
    let slotTable: SlotTable
    let index: PageIndex
    let marks: BlockMarks
    /// What was in use when a stream could not be read that still cannot.
    let kept: BlockMarks

    var identity: StoreIdentity { superblock.identity }
    var layout: StoreLayout { superblock.layout }
    var slotCount: UInt32 { layout.slotCount }

    init(disk: any Disk, superblock: Superblock, memory: SharedMemory) {
        self.disk = disk
        self.superblock = superblock
        self.memory = memory
        table = SegmentTable(disk: disk, identity: superblock.identity, layout: superblock.layout, memory: memory)
        slotTable = SlotTable(disk: disk, identity: superblock.identity, layout: superblock.layout)
        index = PageIndex(memory)
        marks = BlockMarks(memory, words: memory.markWords, layout: superblock.layout)
        kept = BlockMarks(memory, words: memory.keptWords, layout: superblock.layout)
    }

    func slot(at index: UInt32) throws(StoreError) -> SlotRecord? { try slotTable.record(at: index) }

    func slots() throws(StoreError) -> [(index: UInt32, record: SlotRecord)] {
        var found: [(index: UInt32, record: SlotRecord)] = []
        for (index, copies) in try slotTable.written() {
            // A slot that cannot be read names no stream; scrub reports it.
            guard let newest = copies.newest, let record = copies.sectors[newest]?.record else { continue }
            found.append((index, record))
        }
        return found
    }

    /// All slots in which a stream lives, and those that cannot be read: whoever frees must not pass over them.
    func allSlots() throws(StoreError) -> (
        found: [(index: UInt32, record: SlotRecord)], damaged: [(index: UInt32, error: StoreError)]
    ) {
        var found: [(index: UInt32, record: SlotRecord)] = []
        var damaged: [(index: UInt32, error: StoreError)] = []
        for (index, copies) in try slotTable.written() {
            if copies.damage[0] == nil, copies.damage[1] == nil {
                guard let newest = copies.newest, let record = copies.sectors[newest]?.record else { continue }
                found.append((index, record))
                continue
            }
            // Read while it was being written, perhaps.
            do throws(StoreError) {
                if let record = try slotTable.record(at: index) { found.append((index, record)) }
            } catch {
                guard error.isDamage else { throw error }
                damaged.append((index, error))
            }
        }
        return (found, damaged)
    }

    /// The slots as a power cut would leave them, where that is not as they are read.
    ///
    /// A slot that was written and whose write-back failed reads well from the cache for as long as that holds it. Its writer is told, if
    /// it lives; whoever comes later is not.
    func slotsBehind() throws(StoreError) -> [(index: UInt32, record: SlotRecord)] {
        var behind: [(index: UInt32, record: SlotRecord)] = []
        for (index, copies) in try slotTable.written(pastCache: true) {
            guard let newest = copies.newest, let record = copies.sectors[newest]?.record else { continue }
            if try slotTable.copies(of: index..<index + 1)[0].record != record { behind.append((index, record)) }
        }
        return behind
    }

    /// Writes what a slot is read as once more, where that is not what the disk has, and nobody writes the stream.
    ///
    /// The same bytes in the same place: whatever becomes of it, one of the two is there. Not durable yet.
    /// - Parameter isWritten: false to look only.
    /// - Returns: false where nothing is behind any more, or somebody writes the stream.
    @discardableResult
    func rewrite(slot index: UInt32, isWritten: Bool = true) throws(StoreError) -> Bool {
        guard let held = try disk.tryLock(.stream(slot: index), wait: false) else { return false }
        defer { withExtendedLifetime(held) {} }
        let range = index..<index + 1
        guard try slotTable.copies(of: range, pastCache: true)[0].record != slotTable.copies(of: range)[0].record else { return false }
        guard isWritten else { return true }
        let copies = try slotTable.copies(of: index..<index + 1)[0]
        guard let newest = copies.newest, let sector = copies.sectors[newest] else { return true }
        try slotTable.write(sector, to: index, copy: newest)
        return true
    }

    func damagedSlots() throws(StoreError) -> Set<UInt32> { Set(try allSlots().damaged.map(\.index)) }

    func slotDamage() throws(StoreError) -> StoreError? {
        for copies in try slotTable.copies(of: 0..<slotCount) {
            do throws(StoreError) { _ = try SlotTable.record(copies) } catch { return error }
        }
        return nil
    }

    /// Whether a writer of the stream in a slot lives.
    func isWritten(slot: UInt32) throws(StoreError) -> Bool {
        do throws(DiskError) { return try disk.isLocked(.stream(slot: slot)) } catch { throw .disk(error) }
    }

    func write(_ record: SlotRecord?, toSlot index: UInt32) throws(StoreError) { try slotTable.write(record, to: index) }

    /// Space for the writer of a stream, whose lock the caller holds.
    func makeAllocator(forSlot index: UInt32) throws(StoreError) -> any ExtentAllocator {
        guard index < slotCount else { throw .invalid(what: "slot", reason: "\(index) of \(slotCount)") }
        var generator = SystemRandomNumberGenerator()
        // The lower half names the shared memory, so that everybody knows whose writers' segments hold what its hints lead to.
        let before = memory.session(ofSlot: index).pointee.load(ordering: .acquiring) >> 32
        let count = before == 0 ? UInt32.random(in: 1...UInt32.max, using: &generator) : UInt32(truncatingIfNeeded: before) &+ 1
        let session = UInt64(count) << 32 | UInt64(memory.number)
        // From here on what an earlier writer of the slot left behind belongs to nobody.
        memory.session(ofSlot: index).pointee.store(session, ordering: .releasing)
        return SegmentAllocator(table: table, owner: SegmentEntry.Owner(slot: index, session: session))
    }

    func candidates(for checksum: Checksum) -> [PageLocation] { index.find(checksum) }

    func publish(_ checksum: Checksum, at location: PageLocation) { index.publish(checksum, at: location) }

    func forgetHints() { _ = index.purge { _ in false } }

    func share(_ location: PageLocation) -> Bool {
        guard let blocks = layout.blocks(of: location) else { return false }
        // Marked before it is looked up, under the lock under which a collection looks at the marks and frees: either it sees this one, or
        // this sees what it has freed. Whether one runs does not change as long as somebody is in the gate.
        let isMarking = marks.isMarking
        if isMarking { marks.mark(blocks) }
        do throws(StoreError) {
            let lock = isMarking ? try table.lock(exclusive: false) : nil
            defer { withExtendedLifetime(lock) {} }
            for block in blocks where try !isInUse(block) { return false }
            return true
        } catch { return false }
    }

    /// Whether a block is in use for certain: by its segment's entry, and not one that a writer with other shared memory may give out.
    private func isInUse(_ block: UInt64) throws(StoreError) -> Bool {
        let segment = UInt32(block / UInt64(SegmentBits.count))
        guard let entry = try table.entry(segment), entry.used.contains(Int(block % UInt64(SegmentBits.count))) else { return false }
        return entry.owner.map { UInt32(truncatingIfNeeded: $0.session) == memory.number } ?? true
    }

    /// Forgets all hints when somebody has collected without this memory: what they lead to may be free, or somebody else's, by now.
    ///
    /// Within the gate: nobody collects with this memory.
    func catchUp() throws(StoreError) {
        let stamp = try CollectionStamp.read(disk, identity: identity)
        let seen = memory.word(.collection)
        guard seen.pointee.load(ordering: .acquiring) != stamp else { return }
        forgetHints()
        table.forgetCounts()
        // Last: whoever comes before it does the same.
        seen.pointee.store(stamp, ordering: .releasing)
    }

    /// Tells all other shared memories of the store that its users collect; with the gate closed.
    func leaveStamp() throws(StoreError) {
        try catchUp()
        let stamp = CollectionStamp.random()
        try Store.write(CollectionStamp.encode(stamp, identity: identity), at: CollectionStamp.offset, disk)
        memory.word(.collection).pointee.store(stamp, ordering: .releasing)
    }

    func enterGate() throws(StoreError) -> any DiskLockHandle {
        let entered: any DiskLockHandle
        do throws(DiskError) {
            // A collector that waits for the gate holds the turnstile: nobody overtakes it.
            let turnstile = try disk.lock(.turnstile, exclusive: false, wait: true)
            defer { withExtendedLifetime(turnstile) {} }
            guard let gate = try disk.lock(.gate, exclusive: false, wait: true) else { throw DiskError(.lock, disk.name, code: EAGAIN) }
            entered = gate
        } catch { throw .disk(error) }
        try catchUp()
        return entered
    }

    /// Free bytes that a writer could have: a hint, exact when nobody writes.
    func freeBytes() throws(StoreError) -> UInt64 {
        let lock = try table.lock()
        defer { withExtendedLifetime(lock) {} }
        return try table.countFreeBlocks() * UInt64(StoreFormat.blockBytes)
    }
}
