/// An epoch that is being filled.
struct OpenEpoch {
    var number: UInt64
    /// What has changed, in the order in which it was given; a later entry of a key counts.
    var entries: [TreeEntry] = []
    var statistics = EpochStatistics()
    /// Held from the first look-up on.
    var gate: (any DiskLockHandle)?
    /// Why the epoch can only be abandoned.
    var failure: StoreError?
    /// Pages that have a place but are not written: where, and their bytes for comparison.
    var waiting: [Checksum: (location: PageLocation, bytes: UnsafeRawPointer)] = [:]
    /// The same of pages that are being written.
    var waitingBehind: [Checksum: (location: PageLocation, bytes: UnsafeRawPointer)] = [:]
    /// Pages that are being written, to tell others about when they are.
    var publishedNext: [(checksum: Checksum, location: PageLocation)] = []
    /// Pages to tell others about once they are written.
    var unpublished: [(checksum: Checksum, location: PageLocation)] = []
    /// Bytes written ahead that no flush has covered.
    var aheadBytes: UInt64 = 0
    var sample = CompressionSample()

    init(number: UInt64) { self.number = number }

    /// The entries in the order of their keys, each key once.
    mutating func sortedEntries() -> [TreeEntry] {
        if zip(entries, entries.dropFirst()).allSatisfy({ $0.key < $1.key }) { return entries }
        var order = entries.enumerated().map { (entry: $0.element, index: $0.offset) }
        order.sort { ($0.entry.key, $0.index) < ($1.entry.key, $1.index) }
        var result: [TreeEntry] = []
        result.reserveCapacity(order.count)
        for (entry, _) in order {
            if let last = result.indices.last, result[last].key == entry.key { result[last] = entry } else { result.append(entry) }
        }
        return result
    }
}

/// When pages are compressed.
public enum CompressionPolicy: String, Hashable, Sendable {
    /// Never.
    case off
    /// In large epochs, such as full checkpoints, when a sample says that it saves an eighth.
    case auto
    /// Always, where it saves an eighth of a page.
    case on
}

/// Finds out in a large epoch whether compressing pays.
struct CompressionSample {
    /// New pages after which an epoch is large: it takes long anyway.
    private static let largePages: UInt64 = 2048
    /// One page in so many is tried.
    private static let every: UInt64 = 16
    private static let triesMin = 16
    private var tries = 0
    private var saved = 0

    /// Whether to compress the page that comes after `newPages` others.
    func wants(_ policy: CompressionPolicy, newPages: UInt64) -> Bool {
        switch policy {
        case .off: false
        case .on: true
        case .auto: newPages >= Self.largePages && (newPages % Self.every == 0 || pays)
        }
    }

    /// Takes note of an attempt.
    mutating func record(storedBytes: Int) {
        tries += 1
        saved += StoreFormat.blockBytes - storedBytes
    }

    private var pays: Bool { tries >= Self.triesMin && saved >= tries * (StoreFormat.blockBytes / 8) }
}
