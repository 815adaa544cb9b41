/// Buffers of a block each, aligned for direct I/O, reused.
final class BlockPool {
    private static let slabBlocks = 64
    private var slabs: [UnsafeMutableRawBufferPointer] = []
    private var free: [UnsafeMutableRawPointer] = []

    deinit { for slab in slabs { slab.deallocate() } }

    /// A buffer of 4096 bytes with any contents.
    func take() -> UnsafeMutableRawPointer {
        if let block = free.popLast() { return block }
        let slab = UnsafeMutableRawBufferPointer.allocate(
            byteCount: Self.slabBlocks * StoreFormat.blockBytes, alignment: StoreFormat.blockBytes)
        slabs.append(slab)
        // Backwards, so that buffers taken in turn lie in turn and are written as one part.
        for index in (0..<Self.slabBlocks).reversed() {
            guard let base = slab.baseAddress else { continue }
            free.append(base + index * StoreFormat.blockBytes)
        }
        return free.removeLast()
    }

    /// Takes buffers back, in the order in which they were taken.
    func give(_ blocks: [UnsafeMutableRawPointer]) { free.append(contentsOf: blocks.reversed()) }
}
