internal import AuroraVMM
internal import CLinux
internal import Linux
import Synchronization

/// The bounded memory of all epochs on their way to the backends: chunks of page buffers in one mapping.
///
/// Chunks are touched when they are first leased, and the one returned last is leased first, so a copy in the stop window
/// meets no page fault and buffers that are still in a cache. What a burst has touched goes back to the host when nobody
/// needed it for a while.
///
/// `@unchecked Sendable`: the free list is under a lock; a chunk's bytes belong to whoever leases it.
public final class PagePool: @unchecked Sendable {
    /// Pages of a chunk.
    static let chunkPages = 64
    static let chunkBytes = chunkPages * pageBytes
    /// Chunks that are kept though nobody needs them: 8 MiB.
    private static let spareChunks = 32
    /// The least a pipeline works with.
    public static let bytesMin = 16 << 20
    /// Chunks without which no checkpoint can be made: 4 MiB, or a quarter.
    var chunksMin: Int { min(16, chunkCount / 4) }
    /// What a pipeline uses if nothing else is said, in bytes.
    public static let bytesDefault = 256 << 20

    /// The number that stands for a page of zeros, which lies in no buffer.
    static let zeroSlot = UInt32.max

    private struct State {
        var free: [UInt32] = []
        /// Free ones without memory.
        var cold: [UInt32] = []
        /// The fewest in `free` since the last trim.
        var spare = Int.max
        /// Chunks from here on were never leased.
        var untouched: UInt32 = 0
        /// Chunks with somebody who does not come back: a backend that was given up in the midst of a call.
        var lost = 0
    }

    /// Chunks of the pool.
    let chunkCount: Int
    private let mapping: Mapping
    private let state: Mutex<State>
    private let released: @Sendable () -> Void

    /// Makes a pool of at least `bytesMin` bytes, no fewer than eight chunks; none is backed by memory yet.
    ///
    /// - Parameter released: called after chunks came back.
    /// - Throws: `SystemError` when there is no address space.
    init(bytes: Int, bytesMin: Int = PagePool.bytesMin, released: @escaping @Sendable () -> Void) throws(SystemError) {
        chunkCount = max(bytes, bytesMin, 8 * PagePool.chunkBytes) / PagePool.chunkBytes
        // Address space for what takes the place of lost chunks, once for all of them; it costs nothing until then.
        mapping = try .anonymous(count: 2 * chunkCount * PagePool.chunkBytes, what: "the buffers of checkpoints")
        mapping.adviseHugePages()
        self.released = released
        state = Mutex(State(free: [], untouched: 0))
        state.withLock { $0.free.reserveCapacity(chunkCount) }
    }

    /// Chunks nobody leases.
    var freeChunks: Int { state.withLock { available($0) } }

    /// Chunks that may come back to the pool some time: all, as long as others take the places of those that do not.
    var usableChunks: Int { chunkCount - state.withLock { max(0, $0.lost - chunkCount) } }

    /// Chunks are with somebody who does not come back, or has come back all the same (a negative count): others take their places.
    func lose(_ count: Int) {
        state.withLock { $0.lost += count }
        released()
    }

    /// Bytes that chunks have been backed with and not given back.
    var touchedBytes: Int { state.withLock { (Int($0.untouched) - $0.cold.count) * PagePool.chunkBytes } }

    private func available(_ state: borrowing State) -> Int {
        state.free.count + state.cold.count + chunkCount + min(state.lost, chunkCount) - Int(state.untouched)
    }

    /// Leases a chunk; nil when fewer than `keeping` would be left.
    func lease(keeping: Int = 0) -> UInt32? {
        let (chunk, isNew) = state.withLock { state -> (UInt32?, Bool) in
            guard available(state) > keeping else { return (nil, false) }
            let hot = state.free.popLast()
            state.spare = min(state.spare, state.free.count)
            if let hot { return (hot, false) }
            if let chunk = state.cold.popLast() { return (chunk, true) }
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

    /// Gives the memory of chunks back that nobody has needed since the last call, but for a few.
    func trim() {
        // The ones returned first are those that were not needed. Nobody leases them meanwhile.
        let idle = state.withLock { state -> [UInt32] in
            let count = min(state.spare, state.free.count) - PagePool.spareChunks
            state.spare = state.free.count
            guard count > 0 else { return [] }
            let idle = Array(state.free.prefix(count))
            state.free.removeFirst(count)
            return idle
        }
        guard !idle.isEmpty else { return }
        for chunk in idle { _ = clinux_madvise(address(chunk, 0), PagePool.chunkBytes, MADV_DONTNEED) }
        state.withLock { $0.cold.append(contentsOf: idle) }
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
