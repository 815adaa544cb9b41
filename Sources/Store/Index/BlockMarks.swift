internal import Synchronization

/// A bit a block, in shared memory: "in use", while a collection runs, or "to be kept".
///
/// `@unchecked Sendable`: the words are atomics in memory that is kept as long as this.
struct BlockMarks: @unchecked Sendable {
    private let memory: SharedMemory
    private let words: UnsafeMutablePointer<Atomic<UInt64>>
    private let layout: StoreLayout

    /// - Parameter words: of the memory, a bit a block.
    init(_ memory: SharedMemory, words: UnsafeMutablePointer<Atomic<UInt64>>, layout: StoreLayout) {
        self.memory = memory
        self.words = words
        self.layout = layout
    }

    /// Whether a collection wants to know what is used; does not change while somebody is in the gate.
    var isMarking: Bool { memory.word(.marking).pointee.load(ordering: .acquiring) != 0 }

    /// Marks blocks, counted from the first segment's first; returns how many were not marked yet.
    @discardableResult
    func mark(_ blocks: ClosedRange<UInt64>) -> UInt64 {
        guard blocks.upperBound < layout.blockCount else { return 0 }
        var added: UInt64 = 0
        for block in blocks {
            let word = words + Int(block >> 6)
            let bit = UInt64(1) << (block & 63)
            guard word.pointee.load(ordering: .relaxed) & bit == 0 else { continue }
            if word.pointee.bitwiseOr(bit, ordering: .relaxed).oldValue & bit == 0 { added += 1 }
        }
        return added
    }

    /// Marks the blocks of a segment that are set.
    func mark(_ bits: SegmentBits, of segment: UInt32) {
        for index in 0..<16 where bits.words[index] != 0 {
            (words + Int(segment) * 16 + index).pointee.bitwiseOr(bits.words[index], ordering: .relaxed)
        }
    }

    /// Whether a block is marked.
    func contains(_ block: UInt64) -> Bool {
        guard block < layout.blockCount else { return false }
        return (words + Int(block >> 6)).pointee.load(ordering: .acquiring) >> (block & 63) & 1 == 1
    }

    /// The marks of a segment.
    func bits(of segment: UInt32) -> SegmentBits {
        var bits = SegmentBits.none
        for index in 0..<16 { bits.words[index] = (words + Int(segment) * 16 + index).pointee.load(ordering: .acquiring) }
        return bits
    }

    /// Removes all marks; only while nobody marks.
    func clear() {
        for index in 0..<Int(layout.segmentCount) * 16 where (words + index).pointee.load(ordering: .relaxed) != 0 {
            (words + index).pointee.store(0, ordering: .relaxed)
        }
    }
}
