import Synchronization

/// One bit a page, set by any thread, taken by the checkpointer.
///
/// `@unchecked Sendable`: the words are atomics in memory this object owns.
final class DirtyBitmap: @unchecked Sendable {
    private let words: UnsafeMutablePointer<Atomic<UInt64>>
    private let count: Int

    /// A bitmap with all bits clear.
    init(pages: Int) {
        count = (pages + 63) / 64
        words = .allocate(capacity: count)
        for index in 0..<count { (words + index).initialize(to: Atomic(0)) }
    }

    deinit {
        words.deinitialize(count: count)
        words.deallocate()
    }

    /// Sets the bits of the pages that `count` bytes from `offset` touch.
    ///
    /// The range has been checked by the caller.
    @inline(__always)
    func mark(offset: Int, count: Int) {
        guard count > 0 else { return }
        for page in (offset / pageBytes)...((offset + count - 1) / pageBytes) {
            words[page / 64].bitwiseOr(1 << UInt64(page % 64), ordering: .releasing)
        }
    }

    /// Takes all set bits, leaving the bitmap clear; calls `body` with each page number in order.
    func drain(_ body: (Int) -> Void) {
        for index in 0..<count {
            if words[index].load(ordering: .relaxed) == 0 { continue }
            var bits = words[index].exchange(0, ordering: .acquiring)
            while bits != 0 {
                body(index * 64 + bits.trailingZeroBitCount)
                bits &= bits - 1
            }
        }
    }
}
