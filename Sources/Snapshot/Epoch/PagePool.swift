internal import AuroraVMM
internal import Linux
import Synchronization

/// The bounded memory of all epochs on their way to the backends: chunks of page buffers in one mapping.
///
/// Chunks are touched when they are first leased, and the one returned last is leased first, so a copy in the stop window
/// meets no page fault and buffers that are still in a cache.
///
/// `@unchecked Sendable`: the free list is under a lock; a chunk's bytes belong to whoever leases it.
public final class PagePool: @unchecked Sendable {
    /// Pages of a chunk.
    static let chunkPages = 64
    static let chunkBytes = chunkPages * pageBytes
    /// The least a pipeline works with.
    public static let bytesMin = 16 << 20
    /// What a pipeline uses if nothing else is said, in bytes.
    public static let bytesDefault = 256 << 20

    private struct State {
        var free: [UInt32] = []
        /// Chunks from here on were never leased.
        var untouched: UInt32 = 0
    }

    /// Chunks of the pool.
    let chunkCount: Int
    private let mapping: Mapping
    private let state: Mutex<State>
    private let released: @Sendable () -> Void

    /// Makes a pool of at least `bytesMin` bytes; none is backed by memory yet.
    ///
    /// - Parameter released: called after chunks came back.
    /// - Throws: `SystemError` when there is no address space.
    init(bytes: Int, released: @escaping @Sendable () -> Void) throws(SystemError) {
        chunkCount = max(bytes, PagePool.bytesMin) / PagePool.chunkBytes
        mapping = try .anonymous(count: chunkCount * PagePool.chunkBytes, what: "the buffers of checkpoints")
        mapping.adviseHugePages()
        self.released = released
        state = Mutex(State(free: [], untouched: 0))
        state.withLock { $0.free.reserveCapacity(chunkCount) }
    }

    /// Chunks nobody leases.
    var freeChunks: Int { state.withLock { $0.free.count + chunkCount - Int($0.untouched) } }

    /// Leases a chunk; nil when fewer than `keeping` would be left.
    func lease(keeping: Int = 0) -> UInt32? {
        let (chunk, isNew) = state.withLock { state -> (UInt32?, Bool) in
            guard state.free.count + chunkCount - Int(state.untouched) > keeping else { return (nil, false) }
            if let chunk = state.free.popLast() { return (chunk, false) }
            state.untouched += 1
            return (state.untouched - 1, true)
        }
        if let chunk, isNew {
            for page in 0..<PagePool.chunkPages { address(chunk, page).storeBytes(of: 0, as: UInt8.self) }
        }
        return chunk
    }

    /// Gives chunks back.
    func release(_ chunks: [UInt32]) {
        guard !chunks.isEmpty else { return }
        state.withLock { $0.free.append(contentsOf: chunks) }
        released()
    }

    /// The buffer of one page.
    @inline(__always)
    func address(_ chunk: UInt32, _ page: Int) -> UnsafeMutableRawPointer {
        mapping.base + Int(chunk) * PagePool.chunkBytes + page * pageBytes
    }

    /// The buffer of a page by its number in the pool.
    @inline(__always)
    func address(slot: UInt32) -> UnsafeMutableRawPointer { mapping.base + Int(slot) * pageBytes }
}
