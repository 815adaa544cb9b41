/// What a checkpoint cost and where it came from, as the store's history lists it: at most 120 bytes.
///
/// Version (8 bits), five parts of the stop in nanoseconds (32 bits each, as in Table 3 of the paper), copying before it in
/// microseconds (32), pages copied in the stop, pages of memory, pages of volumes (32 each), the checkpoint it continues (64);
/// little-endian.
public struct CheckpointFigures: Hashable, Sendable {
    /// The version this source writes and reads.
    public static let currentVersion: UInt8 = 1
    /// Bytes of the encoding.
    public static let byteCount = 1 + 9 * 4 + 8

    /// Parts of the stop in nanoseconds: pause, copy, state, volumes, resume.
    public var parts: [UInt32]
    /// Copying while the guest ran, in microseconds.
    public var preCopyMicroseconds: UInt32
    /// Pages copied in the stop.
    public var pagesInStop: UInt32
    /// Pages of memory.
    public var pages: UInt32
    /// Pages of volumes.
    public var volumePages: UInt32
    /// The checkpoint it continues; zero for none.
    public var previous: UInt64

    /// Takes the figures of an epoch.
    public init(_ statistics: EpochStatistics, previous: EpochNumber?) {
        parts = [statistics.pause, statistics.copy, statistics.state, statistics.volumes, statistics.resume].map { UInt32(clamping: $0) }
        preCopyMicroseconds = UInt32(clamping: statistics.preCopy / 1000)
        pagesInStop = UInt32(clamping: statistics.pagesInStop)
        pages = UInt32(clamping: statistics.pages + statistics.stagedPages)
        volumePages = UInt32(clamping: statistics.volumePages)
        self.previous = previous?.rawValue ?? 0
    }

    /// Reads figures; nil when the bytes are none, as those of an image.
    public init?(_ bytes: [UInt8]) {
        guard bytes.count >= CheckpointFigures.byteCount, bytes[0] == CheckpointFigures.currentVersion else { return nil }
        func word(_ index: Int) -> UInt32 { (0..<4).reduce(0) { $0 | UInt32(bytes[1 + 4 * index + $1]) << (8 * UInt32($1)) } }
        parts = (0..<5).map(word)
        preCopyMicroseconds = word(5)
        pagesInStop = word(6)
        pages = word(7)
        volumePages = word(8)
        previous = UInt64(word(9)) | UInt64(word(10)) << 32
    }

    /// The bytes.
    public var encoded: [UInt8] {
        var bytes = [CheckpointFigures.currentVersion]
        let words = parts + [preCopyMicroseconds, pagesInStop, pages, volumePages]
        for word in words + [UInt32(truncatingIfNeeded: previous), UInt32(truncatingIfNeeded: previous >> 32)] {
            for shift in stride(from: UInt32(0), to: 32, by: 8) { bytes.append(UInt8(truncatingIfNeeded: word >> shift)) }
        }
        return bytes
    }

    /// How long the guest stood still, in microseconds.
    public var stopMicroseconds: Double { parts.reduce(0) { $0 + Double($1) } / 1000 }
}
