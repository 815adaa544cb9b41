internal import CLinux
import Synchronization

/// Wakes one waiting activity; a signal that comes before the wait is not lost.
///
/// `@unchecked Sendable`: one atomic word in memory this object owns.
package final class WakeSignal: @unchecked Sendable {
    private let word = UnsafeMutablePointer<Atomic<UInt32>>.allocate(capacity: 1)

    init() { word.initialize(to: Atomic(0)) }

    deinit {
        word.deinitialize(count: 1)
        word.deallocate()
    }

    /// To be read before looking for work, and given to `wait`.
    package var ticket: UInt32 { word.pointee.load(ordering: .acquiring) }

    func signal() {
        word.pointee.add(1, ordering: .acquiringAndReleasing)
        _ = clinux_futex_wake(word, 1)
    }

    /// Returns when there was a signal since the ticket, or after a time in nanoseconds (nil: never).
    func wait(_ ticket: UInt32, nanoseconds: Int64? = nil) {
        if let nanoseconds, nanoseconds <= 0 { return }
        _ = clinux_futex_wait(word, ticket, nanoseconds ?? -1)
    }
}
