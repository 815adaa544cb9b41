internal import CLinux

/// How a stream is written.
public struct WriterOptions: Sendable {
    /// When pages are compressed.
    public var compression = CompressionPolicy.auto
    /// What is kept of the history; nil keeps everything.
    public var retention: RetentionPolicy?
    /// Nanoseconds that only grow: for statistics.
    public var monotonic: @Sendable () -> UInt64
    /// Bytes an epoch may have written before it is flushed once before its commit block, so that recovery need not read it.
    public var settleBytes: UInt64 = 64 << 20
    /// Bytes an epoch may have written through the page cache before the rest goes past it.
    public var cachedBytes: UInt64 = 32 << 20

    /// The defaults, with the system's clock.
    public init(retention: RetentionPolicy? = nil) {
        self.retention = retention
        monotonic = { UInt64(clamping: clinux_monotonic_nanoseconds()) }
    }
}
