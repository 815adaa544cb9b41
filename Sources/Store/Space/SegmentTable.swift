internal import Synchronization

/// The segment entries on the disk, and what the shared memory hints about them.
///
/// Entries change only under the allocation lock (which callers take), and only by whoever owns the segment, whoever claims a segment
/// without an owner, or a collection whose segment has no living owner.
final class SegmentTable: Sendable {
    let disk: any Disk
    let identity: StoreIdentity
    let layout: StoreLayout
    let memory: SharedMemory
    /// Entries read at once: 256 KiB.
    static let batch: UInt32 = 512

    init(disk: any Disk, identity: StoreIdentity, layout: StoreLayout, memory: SharedMemory) {
        self.disk = disk
        self.identity = identity
        self.layout = layout
        self.memory = memory
    }

    /// Holds the allocation lock; shared by those who only look.
    func lock(exclusive: Bool = true) throws(StoreError) -> any DiskLockHandle {
        do throws(DiskError) {
            if let handle = try disk.lock(.allocation, exclusive: exclusive, wait: true) { return handle }
        } catch { throw .disk(error) }
        throw .busy(store: disk.name, reason: "its allocation lock cannot be had")
    }

    /// Reads consecutive entries; nil stands for a damaged one, all of whose blocks are taken for used.
    func entries(_ segments: Range<UInt32>) throws(StoreError) -> [SegmentEntry?] {
        let sector = StoreFormat.sectorBytes
        let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: segments.count * sector, alignment: 64)
        defer { buffer.deallocate() }
        let start = layout.segmentEntryOffset(segments.lowerBound)
        do throws(DiskError) { try disk.read(at: start, into: buffer) } catch { throw .disk(error) }
        var result: [SegmentEntry?] = []
        result.reserveCapacity(segments.count)
        for index in 0..<segments.count {
            let bytes = UnsafeRawBufferPointer(rebasing: buffer[index * sector..<(index + 1) * sector])
            result.append(try? SegmentEntry(bytes, identity: identity, at: start + UInt64(index * sector)))
        }
        return result
    }

    /// Reads an entry; nil for a damaged one.
    func entry(_ segment: UInt32) throws(StoreError) -> SegmentEntry? { try entries(segment..<segment + 1)[0] }

    /// Writes entries and adjusts the hints, those of neighbours, the usual case, at once; the caller holds the allocation lock.
    ///
    /// - Parameter durably: whether they survive a power cut when it returns, without waiting for the data that others write meanwhile.
    func write(_ entries: [(segment: UInt32, entry: SegmentEntry)], durably: Bool = false) throws(StoreError) {
        var index = 0
        while index < entries.count {
            var end = index + 1
            while end < entries.count, entries[end].segment == entries[end - 1].segment + 1 { end += 1 }
            var sectors: [UInt8] = []
            for (segment, entry) in entries[index..<end] {
                sectors += entry.encode(identity: identity, at: layout.segmentEntryOffset(segment))
            }
            let offset = layout.segmentEntryOffset(entries[index].segment)
            let failure: DiskError? = sectors.withUnsafeBytes { bytes in
                do throws(DiskError) {
                    if durably { try disk.writeDurably([bytes], at: offset) } else { try disk.write([bytes], at: offset) }
                } catch { return error }
                return nil
            }
            if let failure { throw .disk(failure) }
            for (segment, entry) in entries[index..<end] { note(entry, of: segment) }
            index = end
        }
    }

    /// Adjusts the hints to an entry that has been written.
    func note(_ entry: SegmentEntry, of segment: UInt32) {
        note(segment, free: SegmentBits.count - entry.used.setCount, owner: entry.owner?.slot)
    }

    /// Free blocks of a segment as far as is known; nil when nothing is.
    func freeHint(_ segment: UInt32) -> Int? {
        let hint = memory.segmentHint(segment).pointee.load(ordering: .relaxed) & 0xFFFF
        return hint == 0 ? nil : Int(hint) - 1
    }

    /// The slot whose writer is said to own a segment: all that is known when the entry is damaged.
    func ownerHint(_ segment: UInt32) -> UInt32? {
        let hint = memory.segmentHint(segment).pointee.load(ordering: .relaxed) >> 16
        return hint == 0 ? nil : hint - 1
    }

    /// What is known of free blocks may be wrong: they are counted anew when they are asked for.
    func forgetCounts() { memory.word(.counted).pointee.store(0, ordering: .releasing) }

    /// Adjusts the hints to the entries of some segments; the caller holds the allocation lock.
    func lookAgain(at segments: Range<UInt32>) throws(StoreError) {
        for (segment, entry) in zip(segments, try entries(segments)) {
            if let entry { note(entry, of: segment) } else { note(segment, free: 0, owner: ownerHint(segment)) }
        }
    }

    /// Free blocks in all segments, counted once in the life of the shared memory; the caller holds the allocation lock.
    func countFreeBlocks() throws(StoreError) -> UInt64 {
        let total = memory.word(.freeBlocks)
        if memory.word(.counted).pointee.load(ordering: .acquiring) != 0 { return total.pointee.load(ordering: .relaxed) }
        var sum: UInt64 = 0
        var first: UInt32 = 0
        while first < layout.segmentCount {
            let range = first..<min(first + Self.batch, layout.segmentCount)
            for (segment, entry) in zip(range, try entries(range)) {
                let free = entry.map { SegmentBits.count - $0.used.setCount } ?? 0
                memory.segmentHint(segment).pointee.store(
                    Self.hint(free: free, owner: entry?.owner?.slot ?? ownerHint(segment)), ordering: .relaxed)
                sum += UInt64(free)
            }
            first = range.upperBound
        }
        total.pointee.store(sum, ordering: .relaxed)
        memory.word(.counted).pointee.store(1, ordering: .releasing)
        return sum
    }

    private func note(_ segment: UInt32, free: Int, owner: UInt32?) {
        let old = memory.segmentHint(segment).pointee.exchange(Self.hint(free: free, owner: owner), ordering: .relaxed) & 0xFFFF
        guard old != 0, memory.word(.counted).pointee.load(ordering: .relaxed) != 0 else { return }
        memory.word(.freeBlocks).pointee.wrappingAdd(UInt64(bitPattern: Int64(free) - Int64(old) + 1), ordering: .relaxed)
    }

    private static func hint(free: Int, owner: UInt32?) -> UInt32 {
        UInt32(free + 1) | (owner.map { $0 + 1 } ?? 0) << 16
    }
}
