import Linux
import Synchronization

/// One bit a page: whether it has been filled once.
///
/// `@unchecked Sendable`: the words are atomics in a mapping this object owns, which starts as zeros and costs nothing
/// where no page was filled.
final class PresentPages: @unchecked Sendable {
    private let mapping: Mapping
    private let words: UnsafeMutablePointer<Atomic<UInt64>>

    /// - Throws: `SystemError` when there is no address space.
    init(pages: Int) throws(SystemError) {
        let bytes = (pages + 63) / 64 * 8
        mapping = try .anonymous(count: (bytes + pageBytes - 1) / pageBytes * pageBytes, what: "the list of pages")
        words = mapping.base.assumingMemoryBound(to: Atomic<UInt64>.self)
    }

    /// Whether a page has been filled.
    @inline(__always)
    subscript(page: Int) -> Bool { words[page / 64].load(ordering: .acquiring) >> UInt64(page % 64) & 1 != 0 }

    /// Notes that pages have been filled.
    func insert(_ pages: Range<Int>) {
        for page in pages { words[page / 64].bitwiseOr(1 << UInt64(page % 64), ordering: .releasing) }
    }

    /// Pages filled among the first `pages`.
    func count(pages: Int) -> Int {
        (0..<(pages + 63) / 64).reduce(0) { $0 + words[$1].load(ordering: .relaxed).nonzeroBitCount }
    }
}
