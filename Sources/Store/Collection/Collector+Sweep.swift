internal import Synchronization

/// Freeing what nobody has marked.
extension Collector {
    /// Shorter runs are not discarded: they would cut the file into pieces, and each takes the file system's lock for all who write.
    ///
    /// They are used again where they lie, as soon as half of their segment is free.
    static let discardBlocksMin = 32
    /// Neighbouring segments that are freed at once, with the allocation lock held: 64 MiB.
    private static let segmentsAtOnce = 16

    /// A segment with blocks to free, as it was found.
    private struct Condemned {
        var segment: UInt32
        /// Nil for a damaged one, all of whose blocks count as used.
        var entry: SegmentEntry?
    }

    mutating func sweep(_ live: Set<SegmentEntry.Owner>) throws(StoreError) {
        let count = ground.layout.segmentCount
        var first: UInt32 = 0
        while first < count {
            progress(.segments(done: Int(first), of: Int(count)))
            let range = first..<min(first + SegmentTable.batch, count)
            var condemned: [Condemned] = []
            for (segment, entry) in zip(range, try lockedEntries(range)) where entry?.used.isEmpty != true {
                if try isProtected(segment, entry, live) {
                    statistics.segmentsOwned += 1
                } else if try isCondemned(segment, entry) {
                    condemned.append(Condemned(segment: segment, entry: entry))
                }
            }
            try free(condemned)
            first = range.upperBound
        }
        progress(.segments(done: Int(count), of: Int(count)))
    }

    /// Whether a segment's entry has to change; counts what stays.
    private mutating func isCondemned(_ segment: UInt32, _ entry: SegmentEntry?) throws(StoreError) -> Bool {
        let used = entry?.used ?? .all
        let marked = ground.marks.bits(of: segment)
        let needed = needed(of: segment)
        statistics.blocksKept += UInt64(SegmentBits(words: used.words & marked.words).setCount)
        statistics.blocksHeldBack += UInt64(SegmentBits(words: used.words & needed.words & ~marked.words).setCount)
        return !SegmentBits(words: used.words & ~needed.words).isEmpty || entry == nil || entry?.owner != nil
    }

    /// What must not be freed: what is marked, and what something refers to that cannot be read.
    private func needed(of segment: UInt32) -> SegmentBits {
        let marked = ground.marks.bits(of: segment)
        guard ground.memory.word(.unreadable).pointee.load(ordering: .acquiring) != 0 else { return marked }
        return SegmentBits(words: marked.words | ground.kept.bits(of: segment).words)
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

    /// Frees segments, neighbours at once.
    private mutating func free(_ condemned: [Condemned]) throws(StoreError) {
        var start = 0
        while start < condemned.count {
            var end = start + 1
            while end < condemned.count, end - start < Self.segmentsAtOnce, condemned[end].segment == condemned[end - 1].segment + 1 {
                end += 1
            }
            try free(neighbours: condemned[start..<end])
            start = end
        }
    }

    /// Under the lock: nobody claims meanwhile, so that what is free already can be discarded with its neighbours; and whoever shares a
    /// block marks it before it looks at the entry (`Ground.share`), so that the marks are looked at once more.
    private mutating func free(neighbours: ArraySlice<Condemned>) throws(StoreError) {
        guard let first = neighbours.first?.segment, let last = neighbours.last?.segment else { return }
        let lock = try ground.table.lock()
        defer { withExtendedLifetime(lock) {} }
        var changed: [(segment: UInt32, entry: SegmentEntry)] = []
        var runs = DiscardRuns()
        for (item, found) in zip(neighbours, try ground.table.entries(first..<last + 1)) {
            // Claimed or given back meanwhile: what was condemned stays in use until the next collection.
            guard found == item.entry else {
                runs.interrupt()
                continue
            }
            var entry = found ?? SegmentEntry(used: .all)
            let kept = SegmentBits(words: entry.used.words & needed(of: item.segment).words)
            runs.add(item.segment, needed: kept, freed: SegmentBits(words: entry.used.words & ~kept.words))
            statistics.blocksFreed += UInt64(entry.used.setCount - kept.setCount)
            if found == nil { statistics.segmentsRepaired += 1 }
            entry.generation &+= 1
            entry.owner = nil
            entry.used = kept
            changed.append((item.segment, entry))
        }
        runs.interrupt()
        // Before they become free: as long as they are in use, nobody writes there.
        for run in runs.found { try discard(run) }
        try ground.table.write(changed)
    }

    private mutating func discard(_ run: DiscardRuns.Run) throws(StoreError) {
        do throws(DiskError) {
            try ground.disk.discard(
                at: ground.layout.offset(ofBlock: run.blocks.lowerBound), count: UInt64(run.blocks.count * StoreFormat.blockBytes))
        } catch { throw .disk(error) }
        statistics.blocksDiscarded += run.freed
        statistics.discards += 1
    }
}

/// Runs of blocks that nobody needs, joined over those that were free before: few large holes instead of many small ones.
struct DiscardRuns {
    /// Blocks, counted from the first segment's first, and how many of them become free.
    struct Run: Equatable {
        var blocks: Range<UInt64>
        var freed: UInt64
    }
    /// Those long enough to be discarded, with something in them that becomes free.
    private(set) var found: [Run] = []
    private var open: Run?

    /// Adds the segment that follows the one before.
    mutating func add(_ segment: UInt32, needed: SegmentBits, freed: SegmentBits) {
        let start = UInt64(segment) * UInt64(SegmentBits.count)
        let others = SegmentBits(words: ~needed.words)
        if needed.contains(0) { interrupt() }
        var next = others.run(from: 0)
        while let run = next {
            var bits = SegmentBits.none
            bits.set(run, to: true)
            let count = UInt64(SegmentBits(words: bits.words & freed.words).setCount)
            if let before = open, before.blocks.upperBound == start + UInt64(run.lowerBound) {
                open = Run(blocks: before.blocks.lowerBound..<start + UInt64(run.upperBound), freed: before.freed + count)
            } else {
                interrupt()
                open = Run(blocks: start + UInt64(run.lowerBound)..<start + UInt64(run.upperBound), freed: count)
            }
            next = others.run(from: run.upperBound)
        }
    }

    /// Ends the run in hand.
    mutating func interrupt() {
        if let open, open.freed > 0, open.blocks.count >= Collector.discardBlocksMin { found.append(open) }
        open = nil
    }
}
