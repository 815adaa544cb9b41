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
    /// - Throws: `StoreError.full` when there is none by the entries themselves, whatever the hints say.
    func claim(_ count: Int, for owner: SegmentEntry.Owner, usesReserve: Bool) throws(StoreError) -> [OwnedSegment] {
        let lock = try self.lock()
        defer { withExtendedLifetime(lock) {} }
        let reserved = usesReserve ? 0 : reservedBlocks
        var found = try findFree(count, beyond: reserved)
        if found.isEmpty {
            // Those who use other shared memory claim and give back, too: the hints are made anew.
            forgetCounts()
            found = try findFree(count, beyond: reserved)
        }
        guard !found.isEmpty else { throw .full(store: disk.name, bytes: UInt64(count * StoreFormat.segmentBytes)) }
        let claimed = found.map { OwnedSegment(segment: $0.segment, free: SegmentBits(words: ~$0.entry.used.words)) }
        for index in found.indices {
            found[index].entry.generation &+= 1
            found[index].entry.owner = owner
            found[index].entry.used = .all
        }
        try write(found, durably: true)
        return claimed
    }

    /// Segments with free blocks and without an owner: by the hints, each of which is looked up.
    ///
    /// Where one is wrong, so are others near it: they are put right together.
    private func findFree(_ count: Int, beyond reserved: UInt64) throws(StoreError) -> [(segment: UInt32, entry: SegmentEntry)] {
        var found: [(segment: UInt32, entry: SegmentEntry)] = []
        _ = try countFreeBlocks()
        try forEachCandidate { segment throws(StoreError) in
            guard try countFreeBlocks() > reserved else { return false }
            if let entry = try self.entry(segment), entry.owner == nil, entry.used != .all {
                found.append((segment, entry))
            } else {
                let first = segment / Self.batch * Self.batch
                try lookAgain(at: first..<min(first + Self.batch, layout.segmentCount))
            }
            return found.count < count
        }
        found.sort { $0.segment < $1.segment }
        return found
    }

    /// Gives segments back: what is still free in them is free for all.
    func giveBack(_ segments: [OwnedSegment], of owner: SegmentEntry.Owner) throws(StoreError) {
        guard !segments.isEmpty else { return }
        let lock = try self.lock()
        defer { withExtendedLifetime(lock) {} }
        var entries: [(segment: UInt32, entry: SegmentEntry)] = []
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
            entries.append((owned.segment, entry))
        }
        try write(entries)
    }

    /// Calls the body with segments to try, best first, until it returns false.
    ///
    /// The first ones of the disk that are free for a good part: a file has holes, and what was freed in pieces must be used again before
    /// it grows. Then those with the most free blocks.
    private func forEachCandidate(_ body: (UInt32) throws(StoreError) -> Bool) throws(StoreError) {
        var parts: [(segment: UInt32, free: Int)] = []
        for segment in 0..<layout.segmentCount {
            guard let free = freeHint(segment), free > 0 else { continue }
            if free < Self.reusedBlocksMin {
                parts.append((segment, free))
            } else if try !body(segment) {
                return
            }
        }
        parts.sort { ($0.free, $1.segment) > ($1.free, $0.segment) }
        for part in parts where freeHint(part.segment) ?? 0 > 0 {
            if try !body(part.segment) { return }
        }
    }
}
