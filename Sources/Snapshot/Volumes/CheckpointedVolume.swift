public import AuroraVMM
internal import CLinux
public import Linux
import Synchronization

/// A disk that belongs to the checkpoints of its group: contents of a checkpoint, under what was written since.
///
/// What is written goes to a scratch storage that is never flushed, because a write is durable when its epoch is: a guest's
/// flush completes at once. `freeze` fixes the contents in the stop window without any I/O; afterwards `collect` reads the
/// changed blocks out while the guest writes on. A block that is written before it was read out is copied aside first.
///
/// `@unchecked Sendable`: what changes is only touched under `lock`.
public final class CheckpointedVolume: BlockBackend, @unchecked Sendable {
    /// Bytes of a block: a page of the store.
    public static let blockBytes = pageBytes
    /// Disks are not larger: 16 TiB.
    public static let bytesMax: Int64 = 16 << 40

    /// Size of the disk.
    public let byteCount: Int64
    /// Whether writing is refused.
    public let isReadOnly: Bool
    let blockCount: Int
    private let lock = Mutex<Void>(())
    var base: any PageSource
    var baseBlocks: Int
    var blocks: VolumeBlocks
    let scratch: any ScratchStorage
    var vectors = IOVectors()
    var slice = IOVectors()
    let buffer: UnsafeMutableRawBufferPointer

    /// Makes a disk over a checkpoint's contents.
    ///
    /// - Parameters:
    ///   - byteCount: a multiple of a block; may be more than the base has, what lies behind it reads as zeros.
    ///   - base: the contents, by block.
    ///   - baseBlocks: blocks of the base; it is not asked for others.
    ///   - scratch: empty, this volume's alone.
    /// - Throws: `SystemError` for a size that cannot be.
    public init(
        byteCount: Int64, isReadOnly: Bool = false, base: any PageSource, baseBlocks: Int, scratch: any ScratchStorage
    ) throws(SystemError) {
        guard byteCount > 0, byteCount <= CheckpointedVolume.bytesMax, byteCount % Int64(CheckpointedVolume.blockBytes) == 0 else {
            throw SystemError("make", "a volume of \(byteCount) bytes", errno: .invalidArgument)
        }
        self.byteCount = byteCount
        self.isReadOnly = isReadOnly
        blockCount = Int(byteCount) / CheckpointedVolume.blockBytes
        blocks = try VolumeBlocks(count: blockCount)
        self.base = base
        self.baseBlocks = min(max(baseBlocks, 0), blockCount)
        self.scratch = scratch
        buffer = .allocate(byteCount: CheckpointedVolume.blockBytes, alignment: CheckpointedVolume.blockBytes)
    }

    deinit { buffer.deallocate() }

    private func locked<Result, Failure: Error>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
        try lock.withLock { _ throws(Failure) in try body() }
    }

    /// Puts the disk back to the contents of a checkpoint: what was written is forgotten, and so is what waits to be read out.
    ///
    /// The machine is paused, and nobody collects.
    ///
    /// - Throws: `SystemError`; the disk then holds what it held.
    public func reset(to base: any PageSource, baseBlocks: Int) throws(SystemError) {
        let blocks = try VolumeBlocks(count: blockCount)
        try locked { () throws(SystemError) in
            try scratch.reset()
            self.blocks = blocks
            self.base = base
            self.baseBlocks = min(max(baseBlocks, 0), blockCount)
        }
    }

    // MARK: - Requests of the guest

    /// Fills all buffers from the disk.
    ///
    /// - Throws: `SystemError`; a damaged block of the base reads as an I/O error.
    public func read(_ buffers: borrowing IOVectors, at offset: Int64) throws(SystemError) {
        try locked { () throws(SystemError) in try readLocked(buffers, at: offset) }
    }

    /// Writes all buffers to the disk.
    ///
    /// - Throws: `SystemError`; frozen contents are never harmed.
    public func write(_ buffers: borrowing IOVectors, at offset: Int64) throws(SystemError) {
        try locked { () throws(SystemError) in try writeLocked(buffers, at: offset) }
    }

    /// Completes at once: durability comes from checkpoints.
    public func flush() throws(SystemError) {}

    /// Makes a range read as zeros.
    ///
    /// - Throws: `SystemError`.
    public func writeZeroes(at offset: Int64, count: Int64, mayFree: Bool) throws(SystemError) {
        try locked { () throws(SystemError) in try zeroLocked(at: offset, count: count) }
    }

    /// Makes a range read as zeros: it costs nothing in a checkpoint then.
    ///
    /// - Throws: `SystemError`.
    public func discard(at offset: Int64, count: Int64) throws(SystemError) {
        try writeZeroes(at: offset, count: count, mayFree: true)
    }

    // MARK: - Checkpoints

    /// Blocks written since the last freeze.
    public var dirtyBlocks: Int { locked { blocks.dirty.count } }

    /// Fixes the contents: what was written since the last freeze waits to be read out.
    ///
    /// Called in the stop window; no I/O, no failure.
    public func freeze() { locked { blocks.freeze() } }

    /// Hands over the frozen contents of blocks that changed between two freezes, of the oldest generation that was not read out.
    ///
    /// - Parameters:
    ///   - position: zero, then what the last call returned.
    ///   - blocksMax: blocks that are handed over.
    ///   - body: called with each block and a function that fills a buffer of `blockBytes`; zeros are handed over, too.
    /// - Returns: where to go on; nil when all of the generation are handed over, or nothing was frozen.
    /// - Throws: what `body` throws, among it `SystemError` of the function; the checkpoint cannot be had then: a
    ///   block that was handed over may be overwritten.
    public func collect(
        from position: Int = 0, atMost blocksMax: Int = .max, _ body: (Int, (UnsafeMutableRawBufferPointer) throws -> Void) throws -> Void
    ) throws -> Int? {
        guard let list = locked({ blocks.frozen.first?.blocks }) else { return nil }
        let first = min(max(position, 0), list.count)
        let end = first + min(max(blocksMax, 1), list.count - first)
        for block in list[first..<end] {
            try body(block) { target in
                try locked { () throws(SystemError) in try readFrozen(block, into: target) }
            }
        }
        if end < list.count { return end }
        locked { blocks.finishOldest() }
        return nil
    }

    /// Generations that wait to be read out.
    var frozenCount: Int { locked { blocks.frozen.count } }

    /// Hands over blocks as they are now, from a position on, while the guest writes.
    ///
    /// The base is read without the lock: a stop that freezes the volume meanwhile need not wait for a disk.
    ///
    /// - Parameters:
    ///   - lookedAtMax: blocks that are looked at.
    ///   - blocksMax: blocks that are handed over.
    ///   - withBase: whether those are handed over that are as in the base. If so, zeros are left out; if not, they are handed over, too.
    /// - Returns: where to go on; nil at the end.
    /// - Throws: what `body` or the disk throws.
    public func stream(
        from position: Int, lookingAt lookedAtMax: Int, atMost blocksMax: Int, withBase: Bool,
        _ body: (Int, (UnsafeMutableRawBufferPointer) throws -> Void) throws -> Void
    ) throws -> Int? {
        var block = max(position, 0)
        let end = min(blockCount, block + max(lookedAtMax, 1))
        var left = max(blocksMax, 1)
        while block < end, left > 0 {
            let current = block
            block += 1
            let isWanted =
                switch locked({ blocks.place(current) }) {
                case .scratch: true
                case .zero: !withBase
                case .base: withBase && current < baseBlocks && base.has(current)
                }
            guard isWanted else { continue }
            left -= 1
            try body(current) { target in
                // A write after this look is one that the next freeze has.
                if try locked({ () throws(SystemError) in try readWritten(current, into: target) }) { return }
                try readBase(current, into: target)
            }
        }
        return block < blockCount ? block : nil
    }
}
