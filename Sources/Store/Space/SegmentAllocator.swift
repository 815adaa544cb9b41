internal import Synchronization

/// Gives blocks to the writer of one stream, out of segments it owns.
final class SegmentAllocator: ExtentAllocator {
    /// Segments claimed at once: twice as many each time, so that a fast writer waits for few flushes.
    private static let claimMax = 16
    /// Shorter runs of free blocks are left alone, since each would be a write of its own; a segment without longer ones is given back.
    private static let runBlocksMin = 4

    fileprivate struct State {
        /// By number, ascending.
        var owned: [OwnedSegment] = []
        var nextClaim = 1
        var usesReserve = false
        /// Segments with something that no slot leads to yet: without an owner they would look free to a collection.
        var held: Set<UInt32> = []
        var pinned = Extent(offset: 0, blocks: 0)
        var isClosed = false
        /// Where the last extent was given: its segment is kept.
        var lastSegment: UInt32?
    }

    private let table: SegmentTable
    private let marks: BlockMarks
    let owner: SegmentEntry.Owner
    private let state = Mutex(State())

    init(table: SegmentTable, owner: SegmentEntry.Owner) {
        self.table = table
        self.owner = owner
        marks = BlockMarks(table.memory, words: table.memory.markWords, layout: table.layout)
    }

    // What cannot be given back now is given back by the next collection.
    deinit { try? close() }

    var usesReserve: Bool {
        get { state.withLock { $0.usesReserve } }
        set { state.withLock { $0.usesReserve = newValue } }
    }

    func hold(_ extent: Extent) { state.withLock { $0.held.formUnion(pieces(of: extent).map(\.segment)) } }

    func letGo() { state.withLock { $0.held = [] } }

    var pinned: Extent {
        get { state.withLock { $0.pinned } }
        set { state.withLock { $0.pinned = newValue } }
    }

    func allocate(blocks: Int, preferred: UInt64?) throws(StoreError) -> Extent {
        precondition(blocks > 0, "an extent has blocks")
        return try withState { state throws(StoreError) in
            guard !state.isClosed else { throw .invalid(what: "allocation", reason: "the allocator was closed") }
            if let preferred, let extent = state.take(blocks, at: preferred, table.layout) { return note(extent, &state) }
            if let extent = state.take(blocks, atLeast: min(blocks, Self.runBlocksMin), table.layout) { return note(extent, &state) }
            do throws(StoreError) { try claim(blocks, &state) } catch {
                // Rather pieces than nothing.
                if case .full = error, let extent = state.take(blocks, atLeast: 1, table.layout) { return note(extent, &state) }
                throw error
            }
            guard let extent = state.take(blocks, atLeast: 1, table.layout) else {
                throw .full(store: table.disk.name, bytes: UInt64(blocks * StoreFormat.blockBytes))
            }
            return note(extent, &state)
        }
    }

    func release(_ extent: Extent) {
        state.withLock { state in
            for (segment, range) in pieces(of: extent) {
                guard let index = state.owned.firstIndex(where: { $0.segment == segment }) else { continue }
                state.owned[index].free.set(range, to: true)
                state.owned[index].given.set(range, to: false)
            }
        }
    }

    func yield(keeping extent: Extent) throws(StoreError) {
        try withState { state throws(StoreError) in
            let kept = Set((pieces(of: extent) + pieces(of: state.pinned)).map(\.segment))
            let others = state.owned.filter { !kept.contains($0.segment) }
            state.owned.removeAll { !kept.contains($0.segment) }
            state.nextClaim = 1
            try giveBack(others)
        }
    }

    func close() throws(StoreError) {
        try withState { state throws(StoreError) in
            state.isClosed = true
            let owned = state.owned
            state.owned = []
            try giveBack(owned)
        }
    }

    private func claim(_ blocks: Int, _ state: inout State) throws(StoreError) {
        let kept = Set(pieces(of: state.pinned).map(\.segment) + [state.lastSegment].compactMap(\.self)).union(state.held)
        let exhausted = state.owned.filter { owned in
            !kept.contains(owned.segment) && owned.free.run(atLeast: Self.runBlocksMin)?.count ?? 0 < Self.runBlocksMin
        }
        state.owned.removeAll { owned in exhausted.contains { $0.segment == owned.segment } }
        try giveBack(exhausted)
        // A small store is not divided among few writers.
        let share = max(1, Int(table.layout.segmentCount) / 64)
        let needed = (blocks + StoreFormat.segmentBlocks - 1) / StoreFormat.segmentBlocks
        let count = max(min(needed, share * 4), min(state.nextClaim, share))
        state.owned += try table.claim(count, for: owner, usesReserve: state.usesReserve)
        state.owned.sort { $0.segment < $1.segment }
        state.nextClaim = min(state.nextClaim * 2, Self.claimMax)
    }

    /// A collection sweeps segments without an owner: what was given out of them since it began must be marked by then.
    private func giveBack(_ segments: [OwnedSegment]) throws(StoreError) {
        guard !segments.isEmpty else { return }
        // Not through the turnstile: the caller may be in the gate already, and a collector waiting for it.
        let gate: (any DiskLockHandle)?
        do throws(DiskError) { gate = try table.disk.lock(.gate, exclusive: false, wait: true) } catch { throw .disk(error) }
        defer { withExtendedLifetime(gate) {} }
        if marks.isMarking { for owned in segments { marks.mark(owned.given, of: owned.segment) } }
        try table.giveBack(segments, of: owner)
    }

    private func note(_ extent: Extent, _ state: inout State) -> Extent {
        for (segment, range) in pieces(of: extent) {
            state.lastSegment = segment
            guard marks.isMarking else { continue }
            var bits = SegmentBits.none
            bits.set(range, to: true)
            marks.mark(bits, of: segment)
        }
        return extent
    }

    /// The blocks of an extent, segment by segment.
    private func pieces(of extent: Extent) -> [(segment: UInt32, range: Range<Int>)] {
        guard var block = table.layout.block(at: extent.offset), extent.blocks > 0 else { return [] }
        let end = min(block + UInt64(extent.blocks), table.layout.blockCount)
        var pieces: [(segment: UInt32, range: Range<Int>)] = []
        while block < end {
            let segment = block / UInt64(SegmentBits.count)
            let first = Int(block % UInt64(SegmentBits.count))
            let count = min(SegmentBits.count - first, Int(end - block))
            pieces.append((UInt32(segment), first..<first + count))
            block += UInt64(count)
        }
        return pieces
    }

    private func withState<Result>(_ body: (inout State) throws(StoreError) -> Result) throws(StoreError) -> Result {
        try state.withLock { state throws(StoreError) in try body(&state) }
    }
}

extension SegmentAllocator.State {
    /// Takes blocks at a place, up to as many; nil when the first is not free.
    fileprivate mutating func take(_ blocks: Int, at offset: UInt64, _ layout: StoreLayout) -> Extent? {
        guard offset % UInt64(StoreFormat.blockBytes) == 0, let block = layout.block(at: offset),
            let index = owned.firstIndex(where: { UInt64($0.segment) == block / UInt64(SegmentBits.count) })
        else { return nil }
        let first = Int(block % UInt64(SegmentBits.count))
        guard owned[index].free.contains(first) else { return nil }
        return take(index, first, runLength(index, first, max: blocks), layout)
    }

    /// Takes the first run that is long enough, or else the longest if that will do.
    fileprivate mutating func take(_ blocks: Int, atLeast least: Int, _ layout: StoreLayout) -> Extent? {
        var best: (index: Int, first: Int, count: Int)?
        for index in owned.indices {
            var next = owned[index].free.first(from: 0)
            while let first = next {
                let count = runLength(index, first, max: blocks)
                if count > best?.count ?? 0 { best = (index, first, count) }
                if count >= blocks { break }
                next = owned[index].free.first(from: min(first + count, SegmentBits.count))
            }
            if best?.count ?? 0 >= blocks { break }
        }
        guard let best, best.count >= least else { return nil }
        return take(best.index, best.first, best.count, layout)
    }

    /// Free blocks from one on, over the segments that follow directly.
    private func runLength(_ index: Int, _ first: Int, max: Int) -> Int {
        var end = owned[index].free.firstClear(from: first)
        var count = end - first
        var next = index + 1
        while end == SegmentBits.count, count < max, next < owned.count, owned[next].segment == owned[next - 1].segment + 1 {
            end = owned[next].free.firstClear(from: 0)
            count += end
            next += 1
        }
        return Swift.min(count, max)
    }

    private mutating func take(_ index: Int, _ first: Int, _ count: Int, _ layout: StoreLayout) -> Extent {
        let block = UInt64(owned[index].segment) * UInt64(SegmentBits.count) + UInt64(first)
        var index = index
        var first = first
        var left = count
        while left > 0 {
            let range = first..<Swift.min(first + left, SegmentBits.count)
            owned[index].free.set(range, to: false)
            owned[index].given.set(range, to: true)
            left -= range.count
            index += 1
            first = 0
        }
        return Extent(offset: layout.offset(ofBlock: block), blocks: count)
    }
}
