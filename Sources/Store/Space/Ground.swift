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
        marks = BlockMarks(memory, layout: superblock.layout)
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

    /// All slots in which a stream lives.
    ///
    /// - Throws: `StoreError.damaged` when one cannot be read: whoever frees must not pass over it.
    func allSlots() throws(StoreError) -> [(index: UInt32, record: SlotRecord)] {
        var found: [(index: UInt32, record: SlotRecord)] = []
        for (index, copies) in try slotTable.written() {
            if copies.damage[0] == nil, copies.damage[1] == nil {
                guard let newest = copies.newest, let record = copies.sectors[newest]?.record else { continue }
                found.append((index, record))
                continue
            }
            // Read while it was being written, perhaps.
            if let record = try slotTable.record(at: index) { found.append((index, record)) }
        }
        return found
    }

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
        let session = generator.next() as UInt64
        // From here on what an earlier writer of the slot left behind belongs to nobody.
        memory.session(ofSlot: index).pointee.store(session, ordering: .releasing)
        return SegmentAllocator(table: table, owner: SegmentEntry.Owner(slot: index, session: session))
    }

    func candidates(for checksum: Checksum) -> [PageLocation] { index.find(checksum) }

    func publish(_ checksum: Checksum, at location: PageLocation) { index.publish(checksum, at: location) }

    func forgetHints() { _ = index.purge { _ in false } }

    func markShared(_ location: PageLocation) {
        guard marks.isMarking, let blocks = layout.blocks(of: location) else { return }
        marks.mark(blocks)
    }

    func enterGate() throws(StoreError) -> any DiskLockHandle {
        do throws(DiskError) {
            // A collector that waits for the gate holds the turnstile: nobody overtakes it.
            let turnstile = try disk.lock(.turnstile, exclusive: false, wait: true)
            defer { withExtendedLifetime(turnstile) {} }
            if let gate = try disk.lock(.gate, exclusive: false, wait: true) { return gate }
        } catch { throw .disk(error) }
        throw .busy(store: disk.name, reason: "its gate cannot be entered")
    }

    /// Free bytes that a writer could have: a hint, exact when nobody writes.
    func freeBytes() throws(StoreError) -> UInt64 {
        let lock = try table.lock()
        defer { withExtendedLifetime(lock) {} }
        return try table.countFreeBlocks() * UInt64(StoreFormat.blockBytes)
    }
}
