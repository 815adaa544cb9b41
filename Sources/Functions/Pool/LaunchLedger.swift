internal import Synchronization

/// Which launch images are in use, and what all take of the disk; a value, so that its rules can be tested on their own.
struct LaunchLedger {
    /// How often each is in use.
    private var claims: [String: Int] = [:]
    /// Bytes of each, as seen last.
    private var sizes: [String: Int] = [:]
    /// Launch images removed for want of room.
    private(set) var evicted = 0
    /// When the disk was told of a use last, by the monotonic clock, nanoseconds.
    private var noted: [String: Int64] = [:]
    /// Nanoseconds between two notes of a use on the disk.
    private static let notePeriod: Int64 = 10_000_000_000

    /// Bytes of all.
    var bytes: Int { sizes.values.reduce(0, +) }
    /// How many there are.
    var count: Int { sizes.count }
    /// Bytes of one; nil: none is known of.
    func bytes(of digest: String) -> Int? { sizes[digest] }

    /// Whether somebody uses a launch image.
    func isInUse(_ digest: String) -> Bool { claims[digest] != nil }

    /// Begins a use.
    mutating func claim(_ digest: String) { claims[digest, default: 0] += 1 }

    /// Ends a use.
    mutating func release(_ digest: String) {
        let count = (claims[digest] ?? 1) - 1
        claims[digest] = count > 0 ? count : nil
    }

    /// Whether the disk is to be told of a use now.
    mutating func mustNote(_ digest: String, now: Int64) -> Bool {
        if let last = noted[digest], now - last < LaunchLedger.notePeriod { return false }
        noted[digest] = now
        return true
    }

    /// Notes what one takes of the disk; nothing: it is not there.
    mutating func note(_ digest: String, bytes: Int) { sizes[digest] = bytes > 0 ? bytes : nil }

    /// Notes what there is, after some were removed; what was made meanwhile and is in use stays noted.
    mutating func note(kept: [String: Int], removed: [String]) {
        let made = sizes.filter { kept[$0.key] == nil && claims[$0.key] != nil }
        sizes = kept.merging(made) { old, _ in old }
        for digest in removed { noted[digest] = nil }
        evicted += removed.count
    }

    /// Forgets all but those that are of use.
    mutating func keep(_ digests: Set<String>) {
        sizes = sizes.filter { digests.contains($0.key) || claims[$0.key] != nil }
        noted = noted.filter { sizes[$0.key] != nil }
    }
}

/// Keeps the launch images of an instance from being removed as long as it lives.
final class LaunchLease: Sendable {
    private let release: @Sendable () -> Void

    init(release: @escaping @Sendable () -> Void) { self.release = release }

    deinit { release() }
}
