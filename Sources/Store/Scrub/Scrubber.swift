internal import CLinux

/// Reads what streams refer to and compares it with the checksums that whoever refers to it keeps.
///
/// Nothing may be freed meanwhile, so it excludes a collection. Writers write on: what they add behind the point where their stream is
/// read is not looked at.
struct Scrubber {
    let ground: Ground
    /// Whether the bytes of pages and states are read, or only the structure.
    let readsAll: Bool
    /// Whether second copies are used to make good what can be.
    let repairs: Bool
    let progress: (StoreProgress) -> Void

    /// What has been seen of the blocks: which are referred to, and what their pages' checksums were.
    private struct Visitor: WalkVisitor {
        let ground: Ground
        let readsAll: Bool
        let pages: PageReader
        let page: UnsafeMutableRawBufferPointer
        var report = ScrubReport()
        var referred: [SegmentBits]
        /// Raw pages that were checked, by segment: a digest of the checksum they had.
        var checked: [UInt32: [UInt32]] = [:]

        mutating func refer(_ location: PageLocation, _ what: String, _ number: UInt64?, _ stream: String) -> Bool {
            guard let blocks = ground.layout.blocks(of: location) else {
                report.add(
                    .init(what, stream: stream, number: number, offset: location.offset, reason: "a reference to what is outside the store")
                )
                return false
            }
            for block in blocks {
                let bit = Int(block % UInt64(SegmentBits.count))
                referred[Int(block / UInt64(SegmentBits.count))].set(bit..<bit + 1, to: true)
            }
            return true
        }

        mutating func visit(_ location: PageLocation, _ thing: WalkContext.Thing, _ context: WalkContext) {
            _ = refer(location, thing.rawValue, context.checkpoint, context.stream)
        }

        mutating func visit(bytes reference: DataReference, _ thing: WalkContext.Thing, _ context: WalkContext) throws(StoreError) {
            guard refer(reference.location, thing.rawValue, context.checkpoint, context.stream), readsAll else { return }
            do throws(StoreError) { try pages.source.withBytes(of: reference, what: thing.rawValue) { _ in } } catch {
                try failed(error.inStream(context.stream, number: context.checkpoint), context)
            }
        }

        mutating func visit(pages entries: [TreeEntry], _ context: WalkContext) throws(StoreError) {
            for entry in entries where !entry.location.isZero {
                guard refer(entry.location, "page", context.checkpoint, context.stream) else { continue }
                report.pages += 1
                if readsAll, isUnchecked(entry) { try check(entry, context) }
            }
        }

        /// Whether a page has not been read yet, with this checksum.
        private mutating func isUnchecked(_ entry: TreeEntry) -> Bool {
            guard entry.location.length == StoreFormat.blockBytes, let block = ground.layout.block(at: entry.location.offset) else {
                return true
            }
            let segment = UInt32(block / UInt64(SegmentBits.count))
            let index = Int(block % UInt64(SegmentBits.count))
            let digest = UInt32(truncatingIfNeeded: entry.checksum.low) | 1
            if checked[segment]?[index] == digest { return false }
            checked[segment, default: [UInt32](repeating: 0, count: SegmentBits.count)][index] = digest
            return true
        }

        private mutating func check(_ entry: TreeEntry, _ context: WalkContext) throws(StoreError) {
            report.bytes += UInt64(entry.location.length)
            do throws(StoreError) { try pages.read(entry, into: page) } catch {
                guard case .damaged(var damage) = error.inStream(context.stream, number: context.checkpoint) else {
                    return try failed(error, context)
                }
                let key = PageKey(rawValue: entry.key)
                damage.what = "page \(key.page) of \(key.map == 0 ? "memory" : "volume \(key.map)")"
                report.add(damage)
            }
        }

        mutating func failed(_ error: StoreError, _ context: WalkContext) throws(StoreError) {
            switch error {
            case .damaged(let damage): report.add(damage)
            // A sector that cannot be read is damage like any other; a disk that is gone ends the walk soon enough by itself.
            case .disk(let error) where error.code == EIO:
                report.add(
                    .init(
                        "data", stream: context.stream, number: context.checkpoint, offset: error.offset, reason: "the disk cannot read it")
                )
            default: throw error
            }
        }

        mutating func finished(_ context: WalkContext) { report.checkpoints += 1 }
    }

    func run() throws(StoreError) -> ScrubReport {
        let lock = try takeLock()
        defer { withExtendedLifetime(lock) {} }
        let page = UnsafeMutableRawBufferPointer.allocate(byteCount: StoreFormat.blockBytes, alignment: StoreFormat.blockBytes)
        defer { page.deallocate() }
        // Few nodes are kept: what is checked is what lies on the disk now.
        let source = NodeSource(disk: ground.disk, nodesMax: 16)
        var visitor = Visitor(
            ground: ground, readsAll: readsAll, pages: PageReader(source: source), page: page,
            referred: [SegmentBits](repeating: .none, count: Int(ground.layout.segmentCount)))
        try superblocks(&visitor.report)
        try slotsBehind(&visitor.report)
        let slots = try slots(&visitor.report)
        var walker = StreamWalker(identity: ground.identity, source: source)
        for (done, slot) in slots.enumerated() {
            progress(.streams(done: done, of: slots.count))
            try walker.walk(slot.record, slot: slot.index, &visitor)
            visitor.report.streams += 1
        }
        progress(.streams(done: slots.count, of: slots.count))
        try lookBehind(walker, slots, &visitor)
        // Read last: what was referred to had been claimed before.
        try segments(&visitor)
        return visitor.report
    }

    /// Blocks behind the end of a log that a verification searches for commits.
    private static let searchedBlocks = 64

    /// Tells a log that ends with a damaged commit from one that ends where power failed: whatever a commit further on knew to be durable
    /// was acknowledged, and must be there.
    private func lookBehind(
        _ walker: StreamWalker, _ slots: [(index: UInt32, record: SlotRecord)], _ visitor: inout Visitor
    ) throws(StoreError) {
        var search = CommitSearch(ground: ground, streams: Set(slots.map(\.record.stream)))
        if readsAll { search.look(outside: visitor.referred) }
        for slot in slots {
            guard let end = walker.ends[slot.index], end.next < ground.layout.endOffset else { continue }
            if !readsAll { search.look(from: end.next, blocks: Self.searchedBlocks) }
            let durable = search.durable[slot.record.stream] ?? 0
            // A writer that lives may have gone on since its log was read.
            guard durable > end.sequence, try !walker.hasGrown(slot.record, slot: slot.index) else { continue }
            visitor.report.add(
                .init(
                    "commit block", stream: slot.record.name, offset: end.next,
                    reason: "the history ends before it, though \(durable) commits of the stream were durable: "
                        + "\(durable - end.sequence) of them and what followed are lost"))
        }
    }

    private func takeLock() throws(StoreError) -> any DiskLockHandle {
        do throws(DiskError) {
            if let lock = try ground.disk.lock(.collection, exclusive: true, wait: false) { return lock }
        } catch { throw .disk(error) }
        throw .busy(store: ground.disk.name, reason: "another collection or scrub is running")
    }

    private func superblocks(_ report: inout ScrubReport) throws(StoreError) {
        for copy in 0..<2 {
            let place = StoreLayout.superblockOffsets[copy]
            do throws(StoreError) {
                let found = try Store.superblock(ground.disk, copy: copy)
                if found != ground.superblock { report.add(.init("superblock", offset: place, reason: "its copies differ")) }
            } catch {
                guard case .damaged(let damage) = error else { throw error }
                if repairs {
                    let flusher = try ground.disk.flusher()
                    try Store.write(ground.superblock.encode(copy: copy), at: place, ground.disk)
                    try flusher.settle()
                }
                report.add(damage, isRepaired: repairs)
            }
        }
    }

    /// Slots that are read well, from the cache, and have not reached the disk: a power cut would bring the stream back as it was before.
    private func slotsBehind(_ report: inout ScrubReport) throws(StoreError) {
        for (index, record) in try ground.slotsBehind() {
            let flusher = try ground.disk.flusher()
            guard try ground.rewrite(slot: index, isWritten: repairs) else { continue }
            if repairs { try flusher.settle() }
            report.add(
                .init(
                    "slot", stream: record.name, offset: ground.layout.slotOffset(index, copy: 0),
                    reason: "the disk has an older one than is read: a write of it has failed, and nobody wrote it again"),
                isRepaired: repairs)
        }
    }

    /// Looks at both copies of all slots; returns the streams.
    private func slots(_ report: inout ScrubReport) throws(StoreError) -> [(index: UInt32, record: SlotRecord)] {
        var found: [(index: UInt32, record: SlotRecord)] = []
        for index in 0..<ground.slotCount {
            var copies = try ground.slotTable.copies(of: index..<index + 1)[0]
            if copies.damage[0] != nil || copies.damage[1] != nil { copies = try repair(index, &report) }
            if let newest = copies.newest, let record = copies.sectors[newest]?.record { found.append((index, record)) }
        }
        return found
    }

    /// Writes over the damaged copy of a slot whose other copy is well; only where no writer does the same.
    private func repair(_ index: UInt32, _ report: inout ScrubReport) throws(StoreError) -> SlotTable.Copies {
        let lock: (any DiskLockHandle)?
        do throws(DiskError) { lock = try ground.disk.lock(.stream(slot: index), exclusive: true, wait: false) } catch {
            throw .disk(error)
        }
        defer { withExtendedLifetime(lock) {} }
        var copies = try ground.slotTable.copies(of: index..<index + 1)[0]
        // Read while it was written: a living writer looks after its slot itself.
        for _ in 0..<3 where lock == nil && (copies.damage[0] != nil || copies.damage[1] != nil) {
            usleep(1000)
            copies = try ground.slotTable.copies(of: index..<index + 1)[0]
        }
        for copy in 0..<2 {
            guard case .damaged(let damage) = copies.damage[copy] else { continue }
            let twin = copies.sectors[1 - copy]
            guard repairs, lock != nil, let twin else {
                report.add(damage)
                continue
            }
            let flusher = try ground.disk.flusher()
            try ground.slotTable.write(SlotSector(generation: twin.generation &+ 1, record: twin.record), to: index, copy: copy)
            try flusher.settle()
            report.add(damage, isRepaired: true)
        }
        return copies
    }

    /// Blocks that are referred to and free would be given to somebody else.
    private func segments(_ visitor: inout Visitor) throws(StoreError) {
        var first: UInt32 = 0
        while first < ground.layout.segmentCount {
            progress(.segments(done: Int(first), of: Int(ground.layout.segmentCount)))
            let range = first..<min(first + SegmentTable.batch, ground.layout.segmentCount)
            let entries: [SegmentEntry?]
            do {
                let lock = try ground.table.lock()
                defer { withExtendedLifetime(lock) {} }
                entries = try ground.table.entries(range)
            }
            for (segment, entry) in zip(range, entries) {
                guard let entry else {
                    visitor.report.add(
                        .init(
                            "segment entry", offset: ground.layout.segmentEntryOffset(segment),
                            reason: "its checksum is wrong; all its blocks count as used until a collection makes it anew"))
                    continue
                }
                let lost = SegmentBits(words: visitor.referred[Int(segment)].words & ~entry.used.words)
                guard let bit = lost.first(from: 0) else { continue }
                visitor.report.add(
                    .init(
                        "segment \(segment)", offset: ground.layout.segmentOffset(segment) + UInt64(bit * StoreFormat.blockBytes),
                        reason: "\(lost.setCount) blocks are in use and marked free"))
            }
            first = range.upperBound
        }
        progress(.segments(done: Int(ground.layout.segmentCount), of: Int(ground.layout.segmentCount)))
    }
}

extension Store {
    /// Reads everything that any checkpoint refers to and compares it with its checksums.
    ///
    /// - Parameter repairs: whether second copies of superblock and slots are used to make good what can be.
    /// - Throws: `StoreError.busy` while a collection runs, or what the disk says. Damage is in the report instead.
    public func scrub(repairs: Bool = false, progress: @escaping (StoreProgress) -> Void = { _ in }) throws(StoreError) -> ScrubReport {
        try Scrubber(ground: try wholeGround(), readsAll: true, repairs: repairs, progress: progress).run()
    }

    /// Like `scrub`, but reads the structure only: neither pages nor states.
    ///
    /// - Throws: `StoreError.busy` while a collection runs, or what the disk says.
    public func verify(progress: @escaping (StoreProgress) -> Void = { _ in }) throws(StoreError) -> ScrubReport {
        try Scrubber(ground: try wholeGround(), readsAll: false, repairs: false, progress: progress).run()
    }
}
