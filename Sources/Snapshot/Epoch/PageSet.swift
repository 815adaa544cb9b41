internal import AuroraVMM
import Synchronization

/// Pages with their contents, in order: what changed in an epoch, or a part of it.
///
/// It occupies buffers of the pipeline's pool until it is let go, so a backend must not keep it beyond the call that
/// brought it.
///
/// `@unchecked Sendable`: nothing changes after `init`.
public final class PageSet: @unchecked Sendable {
    struct Entry {
        var key: UInt64
        var slot: UInt32
    }

    private let entries: [Entry]
    private let chunks: [UInt32]
    private let pool: PagePool?
    private let isLost = Atomic(false)

    /// Pages without order; each key at most once.
    init(_ entries: [Entry], chunks: [UInt32], pool: PagePool) {
        self.entries = entries.sorted { $0.key < $1.key }
        self.chunks = chunks
        self.pool = pool
    }

    /// No pages.
    public init() {
        entries = []
        chunks = []
        pool = nil
    }

    deinit {
        pool?.release(chunks)
        if isLost.load(ordering: .relaxed) { pool?.lose(-chunks.count) }
    }

    /// Whoever has it does not come back: nobody is to wait for its buffers.
    func lose() {
        guard !chunks.isEmpty, !isLost.exchange(true, ordering: .acquiringAndReleasing) else { return }
        pool?.lose(chunks.count)
    }

    /// How many pages there are.
    public var count: Int { entries.count }
    /// Whether there are none.
    public var isEmpty: Bool { entries.isEmpty }
    /// Whether the page at a position is known to hold zeros; a page of zeros may also not be known as one.
    public func isZero(at index: Int) -> Bool { entries[index].slot == PagePool.zeroSlot }
    /// The page at a position, in rising order of keys.
    public subscript(index: Int) -> PageKey { PageKey(rawValue: entries[index].key) }

    /// The contents of the page at a position, `pageBytes` bytes, aligned to a page; valid during the call.
    @inline(__always)
    public func withBytes<Result, Failure: Error>(
        at index: Int, _ body: (UnsafeRawBufferPointer) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        guard let pool else { preconditionFailure("an empty set has no page \(index)") }
        let slot = entries[index].slot
        let address = slot == PagePool.zeroSlot ? UnsafeRawPointer(ZeroPage.shared.base) : UnsafeRawPointer(pool.address(slot: slot))
        return try body(UnsafeRawBufferPointer(start: address, count: pageBytes))
    }
}
