internal import CStore
import Synchronization

/// Pages made smaller by zstd, one frame a page.
final class Compression {
    /// Fast enough to keep up with a disk; more saves little on pages of 4 KiB.
    private static let level: Int32 = 1
    private let context: OpaquePointer?
    private let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: StoreFormat.blockBytes, alignment: 64)

    init() { context = ZSTD_createCCtx() }

    deinit {
        ZSTD_freeCCtx(context)
        buffer.deallocate()
    }

    /// The page compressed, valid until the next call; nil when it would not become smaller by an eighth.
    func compress(_ page: UnsafeRawPointer) -> UnsafeRawBufferPointer? {
        let room = StoreFormat.blockBytes - StoreFormat.blockBytes / 8
        let count = ZSTD_compressCCtx(context, buffer.baseAddress, room, page, StoreFormat.blockBytes, Self.level)
        guard ZSTD_isError(count) == 0, count > 0 else { return nil }
        return UnsafeRawBufferPointer(start: buffer.baseAddress, count: count)
    }

    /// Fills a page from its compressed bytes; false when they are not such.
    static func decompress(_ bytes: UnsafeRawBufferPointer, into page: UnsafeMutableRawBufferPointer) -> Bool {
        guard let context = DecompressionContexts.shared.take() else { return false }
        defer { DecompressionContexts.shared.giveBack(context) }
        let count = ZSTD_decompressDCtx(context.pointer, page.baseAddress, page.count, bytes.baseAddress, bytes.count)
        return ZSTD_isError(count) == 0 && count == page.count
    }

    /// Whether a page's 4096 bytes are all zero.
    @inline(__always)
    static func isZero(_ page: UnsafeRawPointer) -> Bool { cstore_is_zero(page, StoreFormat.blockBytes) != 0 }

    /// Whether two pages have the same bytes.
    static func isEqual(_ one: UnsafeRawPointer, _ other: UnsafeRawPointer) -> Bool {
        memcmp(one, other, StoreFormat.blockBytes) == 0
    }
}

/// Decompression contexts that wait for their next page.
///
/// Making one asks the processor for its features, which in a virtual machine is an exit to the hypervisor, twice: it costs more than
/// decompressing a page.
private final class DecompressionContexts: Sendable {
    /// A context, used by one thread at a time.
    ///
    /// `@unchecked Sendable`: it belongs to who took it, or lies in the list that a mutex guards.
    final class Context: @unchecked Sendable {
        fileprivate let pointer: OpaquePointer
        fileprivate init?() {
            guard let pointer = ZSTD_createDCtx() else { return nil }
            self.pointer = pointer
        }
        deinit { ZSTD_freeDCtx(pointer) }
    }

    static let shared = DecompressionContexts()
    /// As many as threads that read at once; each takes some 160 KiB.
    private static let keptMax = 4
    private let free = Mutex<[Context]>([])

    /// A context that waits, or a new one; nil without memory.
    func take() -> Context? { free.withLock { $0.popLast() } ?? Context() }

    func giveBack(_ context: Context) {
        free.withLock { free in
            if free.count < Self.keptMax { free.append(context) }
        }
    }
}
