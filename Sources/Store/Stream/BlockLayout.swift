/// Where the bytes of an epoch go: blocks are taken one after the other, filled, and written together.
///
/// The block of the next commit is always taken already (`head`): its predecessor has to announce it. Small things share blocks, beginning
/// with what the commit block leaves of its own. Everything that has a place but is not written yet is in `parts`.
final class BlockLayout {
    /// Bytes that wait before they are written ahead of the commit.
    static let drainBytes = 4 << 20
    /// Blocks of an epoch that is small: most of what its flush writes would be the file system's own.
    private static let smallEpochBlocks = 16
    /// Blocks that are filled with zeros for the small epochs that follow.
    private static let zeroedBlocks = 64
    /// Blocks that are kept for the anchors that drop checkpoints: a file on a full file system can only be written where it has blocks.
    private static let reserveBlocks = 64
    /// Blocks asked for at a time.
    private static let requestBlocks = 256

    private struct Part {
        var offset: UInt64
        var bytes: UnsafeRawBufferPointer
        var end: UInt64 { offset + UInt64(bytes.count) }
    }

    private let disk: any Disk
    private let allocator: any ExtentAllocator
    private let pool = BlockPool()
    /// Blocks taken from the allocator and not used yet.
    private var spare = Extent(offset: 0, blocks: 0)
    /// Blocks that the file has for certain; empty when there are none.
    private var reserve: Extent {
        get { allocator.pinned }
        set { allocator.pinned = newValue }
    }
    /// Up to here zeros have been written into `spare`.
    private var zeroedEnd: UInt64 = 0
    /// Blocks taken since the last commit.
    private var epochBlocks = 0
    private var parts: [Part] = []
    private var buffers: [UnsafeMutableRawPointer] = []
    /// What is being written while `parts` fills again.
    private let behind: WriteBehind
    private var partsBehind: [Part] = []
    private var buffersBehind: [UnsafeMutableRawPointer] = []
    /// The block that small things are put into, how much of it is used, and whether it is the head's.
    private var small: (offset: UInt64, buffer: UnsafeMutableRawPointer, used: Int)?
    private var headBuffer: UnsafeMutableRawPointer?
    /// Where the next commit block will lie.
    private(set) var head: UInt64
    /// Bytes that have a place but are not written.
    private(set) var waitingBytes = 0
    /// Whether a commit block is on the disk whose epoch failed: what it refers to must stay as it is.
    private(set) var isTainted = false

    /// Whether the last free blocks may be taken, too: only by who frees others.
    var usesReserve: Bool {
        get { allocator.usesReserve }
        set { allocator.usesReserve = newValue }
    }

    /// Whether small things are placed to which, for now, nothing leads that a collection follows.
    var holdsPlaces = false

    /// What was placed meanwhile is led to.
    func letGo() { allocator.letGo() }

    /// The head has to be set before anything is written.
    init(disk: any Disk, allocator: any ExtentAllocator) {
        self.disk = disk
        self.allocator = allocator
        behind = WriteBehind(disk)
        head = 0
    }

    // The buffers are the pool's, which goes with the layout.
    deinit { try? behind.land() }

    /// Takes the block of a new stream's first commit.
    func takeFirstHead() throws(StoreError) { head = try takeBlock() }

    /// Goes on where the last commit said; blocks behind it are preferred.
    func resume(head: UInt64) {
        self.head = head
        spare = Extent(offset: head + UInt64(StoreFormat.blockBytes), blocks: 0)
    }

    private func takeBlock() throws(StoreError) -> UInt64 {
        if usesReserve, reserve.blocks > 0 {
            let offset = reserve.offset
            reserve = Extent(offset: offset + UInt64(StoreFormat.blockBytes), blocks: reserve.blocks - 1)
            return offset
        }
        if spare.blocks == 0 {
            let preferred = spare.offset == 0 ? nil : spare.offset
            spare = try allocator.allocate(blocks: Self.requestBlocks, preferred: preferred)
        }
        defer {
            spare.offset += UInt64(StoreFormat.blockBytes)
            spare.blocks -= 1
            epochBlocks += 1
        }
        return spare.offset
    }

    private func append(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) {
        waitingBytes += bytes.count
        if let last = parts.indices.last, parts[last].end == offset, let base = parts[last].bytes.baseAddress,
            base + parts[last].bytes.count == bytes.baseAddress
        {
            parts[last].bytes = UnsafeRawBufferPointer(start: base, count: parts[last].bytes.count + bytes.count)
        } else {
            parts.append(Part(offset: offset, bytes: bytes))
        }
    }

    private func newBuffer() -> UnsafeMutableRawPointer {
        let buffer = pool.take()
        buffers.append(buffer)
        return buffer
    }

    // MARK: placing

    /// Gives a page a block.
    ///
    /// - Parameter copy: false when the bytes stay as they are until the epoch is closed or abandoned.
    func place(page: UnsafeRawPointer, copy: Bool) throws(StoreError) -> UInt64 {
        let offset = try takeBlock()
        var bytes = UnsafeRawBufferPointer(start: page, count: StoreFormat.blockBytes)
        if copy {
            let buffer = newBuffer()
            buffer.copyMemory(from: page, byteCount: StoreFormat.blockBytes)
            bytes = UnsafeRawBufferPointer(start: buffer, count: StoreFormat.blockBytes)
        }
        append(bytes, at: offset)
        return offset
    }

    /// Gives some bytes, at most a block, a place.
    func place(_ bytes: UnsafeRawBufferPointer) throws(StoreError) -> PageLocation {
        precondition(!bytes.isEmpty && bytes.count <= StoreFormat.blockBytes, "bytes do not fit into a block")
        let step = Int(PageLocation.alignment)
        let before = small
        var target: (offset: UInt64, buffer: UnsafeMutableRawPointer, used: Int)
        if let before, before.used + bytes.count <= StoreFormat.blockBytes {
            target = before
        } else {
            let offset = try takeBlock()
            let buffer = newBuffer()
            buffer.initializeMemory(as: UInt8.self, repeating: 0, count: StoreFormat.blockBytes)
            append(UnsafeRawBufferPointer(start: buffer, count: StoreFormat.blockBytes), at: offset)
            target = (offset, buffer, 0)
        }
        guard let base = bytes.baseAddress, let location = PageLocation(offset: target.offset + UInt64(target.used), length: bytes.count)
        else { throw .invalid(what: "place in the store", reason: "the store is larger than the format allows") }
        (target.buffer + target.used).copyMemory(from: base, byteCount: bytes.count)
        if holdsPlaces { allocator.hold(Extent(offset: target.offset, blocks: 1)) }
        target.used = (target.used + bytes.count + step - 1) / step * step
        // The emptier of the two blocks goes on being filled.
        if before.map({ $0.offset == target.offset || target.used < $0.used }) ?? true { small = target }
        return location
    }

    // MARK: epochs

    /// Opens the head's block: what its commit block leaves is for small things.
    func beginEpoch() {
        let buffer = pool.take()
        buffer.initializeMemory(as: UInt8.self, repeating: 0, count: StoreFormat.blockBytes)
        headBuffer = buffer
        let step = Int(PageLocation.alignment)
        small = (head, buffer, (CommitBlock.headBytesMax + step - 1) / step * step)
    }

    /// Whether a place is in the head's block, which is written last.
    func isInHead(_ location: PageLocation) -> Bool {
        location.offset >= head && location.offset < head + UInt64(StoreFormat.blockBytes)
    }

    /// Nothing more goes into the block for small things, so that all of it can be written.
    func closeSmall() { small = nil }

    /// Takes the block of the commit after the one in hand.
    func takeNextHead() throws(StoreError) -> UInt64 { try takeBlock() }

    /// Begins to write everything that has a place, except for the head's block: it is written when `land` has returned.
    ///
    /// - Parameter isCached: false for what is so large that nobody will read it soon.
    func drain(isCached: Bool = true) throws(StoreError) {
        try land()
        if let small, small.offset != head { closeSmall() }
        behind.start(runs(of: parts), isCached: isCached)
        (partsBehind, buffersBehind) = (parts, buffers)
        (parts, buffers, waitingBytes) = ([], [], 0)
    }

    /// Waits until everything that was drained is written; where that fails it has to be drained once more.
    func land() throws(StoreError) {
        defer { (partsBehind, buffersBehind) = ([], []) }
        do throws(DiskError) { try behind.land() } catch {
            parts = partsBehind + parts
            buffers = buffersBehind + buffers
            waitingBytes = parts.reduce(0) { $0 + $1.bytes.count }
            throw .disk(error)
        }
        pool.give(buffersBehind)
    }

    /// Writes what waits and the commit block, which goes last (or in one with what follows it), and moves on to the next head.
    func finish(head bytes: [UInt8], next: UInt64) throws(StoreError) {
        guard let headBuffer else { preconditionFailure("an epoch was finished that was not begun") }
        try land()
        bytes.withUnsafeBytes { headBuffer.copyMemory(from: $0.baseAddress ?? UnsafeRawPointer(headBuffer), byteCount: $0.count) }
        closeSmall()
        let block = Part(offset: head, bytes: UnsafeRawBufferPointer(start: headBuffer, count: StoreFormat.blockBytes))
        // All that follows the head without a gap goes with it.
        var following = 0
        var end = block.end
        while following < parts.count, parts[following].offset == end {
            end = parts[following].end
            following += 1
        }
        try write(Array(parts[following...]))
        do throws(StoreError) { try write([block] + parts[..<following]) } catch {
            isTainted = !takeBack(block, headBytes: bytes.count)
            throw error
        }
        forgetParts()
        closeHead()
        head = next
        if epochBlocks <= Self.smallEpochBlocks { try zeroAhead() }
        epochBlocks = 0
    }

    /// Makes sure that a commit block whose write failed half-way is not found: its epoch will be abandoned, and what it refers to be given
    /// to others.
    private func takeBack(_ block: Part, headBytes: Int) -> Bool {
        let found = UnsafeMutableRawBufferPointer(start: pool.take(), count: StoreFormat.blockBytes)
        defer { if let buffer = found.baseAddress { pool.give([buffer]) } }
        do throws(DiskError) {
            try disk.read(at: block.offset, into: found)
            guard found.prefix(headBytes).elementsEqual(block.bytes.prefix(headBytes)) else { return true }
            let zeros = [UInt8](repeating: 0, count: StoreFormat.blockBytes)
            let failure: DiskError? = zeros.withUnsafeBytes { zeros in
                do throws(DiskError) { try disk.write([zeros], at: block.offset) } catch { return error }
                return nil
            }
            // Half of it is enough.
            if failure != nil { try disk.read(at: block.offset, into: found) }
            return failure == nil || !found.prefix(headBytes).elementsEqual(block.bytes.prefix(headBytes))
        } catch { return false }
    }

    /// Writes zeros where the next epochs will lie, once for many: a block the file has already is flushed without a commit of the file
    /// system's journal.
    private func zeroAhead() throws(StoreError) {
        let step = UInt64(StoreFormat.blockBytes)
        let isZeroed = zeroedEnd > spare.offset && zeroedEnd <= spare.end
        let ready = isZeroed ? (zeroedEnd - spare.offset) / step : 0
        guard disk.isSparse, ready < UInt64(Self.smallEpochBlocks), ready < UInt64(spare.blocks) else { return }
        let start = spare.offset + ready * step
        let count = min(Self.zeroedBlocks, spare.blocks - Int(ready))
        do throws(StoreError) { try writeZeros(at: start, blocks: count) } catch {
            // The commit is written: it does not fail for want of room for others.
            guard error.isNoRoom else { throw error }
            return
        }
        zeroedEnd = start + UInt64(count) * step
    }

    /// Makes the reserve whole, where there is room for it; not while an epoch is open.
    func fillReserve() throws(StoreError) {
        guard disk.isSparse, reserve.blocks < Self.reserveBlocks / 2 else { return }
        if reserve.blocks > 0 { allocator.release(reserve) }
        reserve = Extent(offset: 0, blocks: 0)
        let extent = try allocator.allocate(blocks: Self.reserveBlocks, preferred: nil)
        do throws(StoreError) { try writeZeros(at: extent.offset, blocks: extent.blocks) } catch {
            allocator.release(extent)
            throw error
        }
        reserve = extent
    }

    private func writeZeros(at offset: UInt64, blocks: Int) throws(StoreError) {
        let zeros = pool.take()
        defer { pool.give([zeros]) }
        zeros.initializeMemory(as: UInt8.self, repeating: 0, count: StoreFormat.blockBytes)
        let block = UnsafeRawBufferPointer(start: zeros, count: StoreFormat.blockBytes)
        do throws(DiskError) { try disk.write(Array(repeating: block, count: blocks), at: offset) } catch { throw .disk(error) }
    }

    /// Throws the open epoch away; blocks that were not written yet are free again.
    func abandonEpoch() {
        // What failed waits again, and is given back with the rest.
        try? land()
        for part in parts where !isTainted {
            allocator.release(Extent(offset: part.offset, blocks: part.bytes.count / StoreFormat.blockBytes))
        }
        forgetParts()
        closeSmall()
        closeHead()
    }

    /// Gives segments back, but for what was taken and is not used yet; not while an epoch is open.
    func yield() throws(StoreError) { try allocator.yield(keeping: spare) }

    /// Gives back what was taken but never used.
    func close() throws(StoreError) {
        if spare.blocks > 0 { allocator.release(spare) }
        if reserve.blocks > 0 { allocator.release(reserve) }
        spare.blocks = 0
        reserve.blocks = 0
        try allocator.close()
    }

    private func closeHead() {
        if let headBuffer { pool.give([headBuffer]) }
        headBuffer = nil
    }

    private func forgetParts() {
        parts.removeAll(keepingCapacity: true)
        waitingBytes = 0
        pool.give(buffers)
        buffers.removeAll(keepingCapacity: true)
    }

    private func write(_ parts: [Part]) throws(StoreError) {
        for run in runs(of: parts) {
            do throws(DiskError) { try disk.write(run.parts, at: run.offset) } catch { throw .disk(error) }
        }
    }

    private func runs(of parts: [Part]) -> [WriteBehind.Run] {
        var runs: [WriteBehind.Run] = []
        var index = 0
        while index < parts.count {
            let start = index
            var run: [UnsafeRawBufferPointer] = []
            repeat {
                run.append(parts[index].bytes)
                index += 1
            } while index < parts.count && parts[index].offset == parts[index - 1].end
            runs.append(WriteBehind.Run(offset: parts[start].offset, parts: run))
        }
        return runs
    }
}
