internal import Synchronization

/// A segment that a writer owns, with the blocks it may still give out.
struct OwnedSegment: Sendable {
    let segment: UInt32
    /// Blocks that can be given out.
    var free: SegmentBits
    /// Blocks that have been given out since the segment was claimed.
    var given = SegmentBits.none
}

extension SegmentTable {
    /// Free blocks of a segment that is used again before the file grows: so at most half of what a store takes is free.
    static let reusedBlocksMin = SegmentBits.count / 2

    /// Blocks that only those may take who free others: enough for the anchors that drop checkpoints.
    var reservedBlocks: UInt64 { UInt64(max(1, min(layout.segmentCount / 64, 16))) * UInt64(StoreFormat.segmentBlocks) }

    /// Claims segments for a writer: the first ones that are half free, else those with the most free blocks.
    ///
    /// Durable when it returns: a commit that survives a power cut by luck must not lie in a segment that looks free afterwards.
    /// - Throws: `StoreError.full` when there is none.
    func claim(_ count: Int, for owner: SegmentEntry.Owner, usesReserve: Bool) throws(StoreError) -> [OwnedSegment] {
        var claimed: [OwnedSegment] = []
        do {
            let lock = try self.lock()
            defer { withExtendedLifetime(lock) {} }
            var entries: [(segment: UInt32, entry: SegmentEntry)] = []
            let free = try countFreeBlocks()
            let reserved = usesReserve ? 0 : reservedBlocks
            guard free > reserved else { throw StoreError.full(store: disk.name, bytes: UInt64(count * StoreFormat.segmentBytes)) }
            for segment in candidates(count) where claimed.count < count {
                // What the hint says is looked up: it may be wrong, the entry may be damaged.
                guard var entry = try self.entry(segment), entry.owner == nil, entry.used != .all else {
                    memory.segmentHint(segment).pointee.store(1, ordering: .relaxed)
                    continue
                }
                let owned = OwnedSegment(segment: segment, free: SegmentBits(words: ~entry.used.words))
                entry.generation &+= 1
                entry.owner = owner
                entry.used = .all
                entries.append((segment, entry))
                claimed.append(owned)
            }
            try writeDurably(entries)
        }
        guard !claimed.isEmpty else { throw .full(store: disk.name, bytes: UInt64(count * StoreFormat.segmentBytes)) }
        return claimed
    }

    /// Writes entries; those of neighbours, the usual case, at once, and without waiting for the data that others write meanwhile.
    private func writeDurably(_ entries: [(segment: UInt32, entry: SegmentEntry)]) throws(StoreError) {
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
                do throws(DiskError) { try disk.writeDurably([bytes], at: offset) } catch { return error }
                return nil
            }
            if let failure { throw .disk(failure) }
            for (segment, entry) in entries[index..<end] { note(entry, of: segment) }
            index = end
        }
    }

    /// Gives segments back: what is still free in them is free for all.
    func giveBack(_ segments: [OwnedSegment], of owner: SegmentEntry.Owner) throws(StoreError) {
        guard !segments.isEmpty else { return }
        let lock = try self.lock()
        defer { withExtendedLifetime(lock) {} }
        for owned in segments {
            var entry: SegmentEntry
            if let found = try self.entry(owned.segment) {
                guard found.owner == owner else { continue }
                entry = found
            } else {
                guard ownerHint(owned.segment) == owner.slot else { continue }
                entry = SegmentEntry()
            }
            entry.generation &+= 1
            entry.owner = nil
            entry.used = SegmentBits(words: ~owned.free.words)
            try write(entry, of: owned.segment)
        }
    }

    /// Segments to try, best first: more than are wanted, since hints may be wrong.
    ///
    /// The first ones of the disk that are free for a good part: a file has holes, and what was freed in pieces must be used again before
    /// it grows. Where there are none, those with the most free blocks.
    private func candidates(_ count: Int) -> [UInt32] {
        var good: [UInt32] = []
        var parts: [(segment: UInt32, free: Int)] = []
        for segment in 0..<layout.segmentCount {
            guard let free = freeHint(segment), free > 0 else { continue }
            if free >= Self.reusedBlocksMin {
                good.append(segment)
                if good.count >= count + 4 { return good }
            } else {
                parts.append((segment, free))
            }
        }
        parts.sort { ($0.free, $1.segment) > ($1.free, $0.segment) }
        return good + parts.map(\.segment)
    }
}
