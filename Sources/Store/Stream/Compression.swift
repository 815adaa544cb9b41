internal import CStore

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
        let count = ZSTD_decompress(page.baseAddress, page.count, bytes.baseAddress, bytes.count)
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
