import Synchronization

/// The last bytes a guest printed, and whoever wants all of them.
///
/// Any thread may use it.
public final class ConsoleLog: Sendable {
    /// Receives everything printed, in order, on the printing thread.
    public typealias Sink = @Sendable (UnsafeRawBufferPointer) -> Void

    /// How many bytes are kept for error messages.
    public static let tailBytesMax = 16 * 1024

    private let kept = Mutex<[UInt8]>([])
    private let sink: Sink?

    /// A log that keeps the tail and passes everything on to `sink`.
    public init(sink: Sink? = nil) { self.sink = sink }

    /// Adds what the guest printed.
    public func append(_ bytes: UnsafeRawBufferPointer) {
        guard !bytes.isEmpty else { return }
        kept.withLock { kept in
            kept.append(contentsOf: bytes.suffix(Self.tailBytesMax))
            // Trimmed only now and then, so that appending stays cheap.
            if kept.count > 2 * Self.tailBytesMax { kept.removeFirst(kept.count - Self.tailBytesMax) }
        }
        sink?(bytes)
    }

    /// The last bytes printed, as text; what is not UTF-8 shows as replacement characters.
    public var tail: String { String(decoding: kept.withLock { $0.suffix(Self.tailBytesMax) }, as: UTF8.self) }

    /// The last `count` lines printed.
    public func lastLines(_ count: Int) -> [String] {
        tail.split(omittingEmptySubsequences: true) { $0.isNewline }.suffix(count).map(String.init)
    }

    /// The lines of a panic: from the one that says why, which a long trace of calls follows; else the last ones.
    var panicLines: [String] {
        let lines = lastLines(100)
        let reason = lines.lastIndex { $0.contains("Kernel panic - not syncing") }
        return Array(lines[min(reason ?? lines.endIndex, max(0, lines.count - 40))...])
    }
}
