internal import Linux
internal import Synchronization

/// Flushes for several threads that answer for the same writes: one after the other, and never well again after a failure.
///
/// The kernel tells a failed write-back once to an open file. Of two threads that flush through it at the same time only one would hear
/// of it, and the other call durable what is lost.
final class LastingFlusher: DiskFlusher {
    /// How long one thread waits for another's flush, in nanoseconds; who waits in vain takes it for failed.
    private static let turnNanoseconds: Int64 = 60_000_000_000

    private let inner: any DiskFlusher
    private let disk: String
    private let turn = Turn()
    private let failure = Mutex<DiskError?>(nil)

    init(_ inner: any DiskFlusher, disk: String) {
        self.inner = inner
        self.disk = disk
    }

    func flush() throws(DiskError) {
        let late = { (_: Turn.Denial) in DiskError(.flush, self.disk, code: Errno.timedOut.rawValue) }
        try turn.take("a flush", withinNanoseconds: LastingFlusher.turnNanoseconds, orThrow: late) { () throws(DiskError) in
            if let failed = failure.withLock({ $0 }) { throw failed }
            do throws(DiskError) { try inner.flush() } catch {
                failure.withLock { $0 = error }
                throw error
            }
        }
    }
}
