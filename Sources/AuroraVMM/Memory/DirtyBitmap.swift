internal import CLinux
import Synchronization

/// One bit a page, set by any thread, taken by the checkpointer.
///
/// A summary has one bit for each word of 64 pages, so that taking a few set bits costs no walk over all of memory.
///
/// `@unchecked Sendable`: the words are atomics in memory this object owns.
final class DirtyBitmap: @unchecked Sendable {
    private let words: UnsafeMutablePointer<Atomic<UInt64>>
    private let summary: UnsafeMutablePointer<Atomic<UInt64>>
    private let pages: Int
    private let count: Int
    private let summaryCount: Int

    /// A bitmap with all bits clear.
    init(pages: Int) {
        self.pages = pages
        count = (pages + 63) / 64
        summaryCount = (count + 63) / 64
        words = DirtyBitmap.zeros(count)
        summary = DirtyBitmap.zeros(summaryCount)
    }

    deinit {
        free(words)
        free(summary)
    }

    /// Words that cost nothing until one is set.
    private static func zeros(_ count: Int) -> UnsafeMutablePointer<Atomic<UInt64>> {
        guard let pointer = calloc(max(1, count), MemoryLayout<Atomic<UInt64>>.stride) else {
            preconditionFailure("there is no memory for \(count * 8) bytes")
        }
        // Safety: an atomic of zero bytes is one that holds zero, and has nothing to deinitialize.
        return pointer.assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    /// Sets the bits of the pages that `count` bytes from `offset` touch.
    ///
    /// The range has been checked by the caller.
    @inline(__always)
    func mark(offset: Int, count: Int) {
        guard count > 0 else { return }
        for page in (offset / pageBytes)...((offset + count - 1) / pageBytes) { mark(page: page) }
    }

    /// Sets the bit of a page, which has been checked by the caller.
    ///
    /// Never skips a bit that is set already: reading it first would let the write that is announced here pass a harvest.
    @inline(__always)
    func mark(page: Int) { mark(word: page / 64, bits: 1 << UInt64(page % 64)) }

    /// Sets several bits of one word; the summary follows, so that no set bit stays unseen.
    @inline(__always)
    func mark(word: Int, bits: UInt64) {
        words[word].bitwiseOr(bits, ordering: .acquiringAndReleasing)
        summary[word / 64].bitwiseOr(1 << UInt64(word % 64), ordering: .acquiringAndReleasing)
    }

    /// Sets the bits of all pages.
    func markAll() {
        for word in 0..<count {
            let pages = min(64, self.pages - word * 64)
            mark(word: word, bits: pages == 64 ? .max : 1 << UInt64(pages) - 1)
        }
    }

    /// Takes all set bits, leaving the bitmap clear; calls `body` with each page number in order.
    @inline(__always)
    func drain(_ body: (Int) -> Void) {
        _ = drain(from: 0) { page in
            body(page)
            return true
        }
    }

    /// Takes set bits from a page on, in order, until `body` refuses one: that bit and all others stay set.
    ///
    /// - Returns: the page that was refused; nil when there was none.
    @inline(__always)
    func drain(from first: Int, while body: (Int) -> Bool) -> Int? {
        for group in min(first / 4096, summaryCount)..<summaryCount {
            if summary[group].load(ordering: .relaxed) == 0 { continue }
            var marked = summary[group].exchange(0, ordering: .acquiringAndReleasing)
            if group == first / 4096 { leave(group, &marked, before: first / 64 % 64) }
            while marked != 0 {
                let word = group * 64 + marked.trailingZeroBitCount
                var bits = words[word].exchange(0, ordering: .acquiringAndReleasing)
                if word == first / 64, bits & (1 << UInt64(first % 64) - 1) != 0 {
                    let early = bits & (1 << UInt64(first % 64) - 1)
                    bits &= ~early
                    mark(word: word, bits: early)
                }
                while bits != 0 {
                    let page = word * 64 + bits.trailingZeroBitCount
                    guard body(page) else {
                        mark(word: word, bits: bits)
                        summary[group].bitwiseOr(marked, ordering: .acquiringAndReleasing)
                        return page
                    }
                    bits &= bits - 1
                }
                marked &= marked - 1
            }
        }
        return nil
    }

    /// Puts the summary's bits of words back that come before the first wanted.
    private func leave(_ group: Int, _ marked: inout UInt64, before word: Int) {
        let early = marked & (1 << UInt64(word) - 1)
        guard early != 0 else { return }
        marked &= ~early
        summary[group].bitwiseOr(early, ordering: .acquiringAndReleasing)
    }
}
