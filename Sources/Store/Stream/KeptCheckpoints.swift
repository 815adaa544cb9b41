import Synchronization

/// Checkpoints that thinning passes over, as somebody still reads pages through their tables.
///
/// Whoever lets one go need not wait for a writer that is at the disk.
final class KeptCheckpoints: Sendable {
    /// How many keep each.
    private let counts = Mutex<[UInt64: Int]>([:])

    func contains(_ number: UInt64) -> Bool { counts.withLock { $0[number] != nil } }

    /// Somebody reads through a checkpoint's tables, one more than before.
    func keep(_ number: UInt64) { counts.withLock { $0[number, default: 0] += 1 } }

    /// One of those who kept a checkpoint needs it no more.
    func letGo(_ number: UInt64) {
        counts.withLock { counts in
            guard let count = counts[number] else { return }
            counts[number] = count > 1 ? count - 1 : nil
        }
    }
}
