internal import CLinux

/// A point of the monotonic clock by which something must have happened.
struct Deadline: Sendable {
    private let nanoseconds: Int64

    /// A deadline that never comes.
    static let never = Deadline(nanoseconds: .max)

    private init(nanoseconds: Int64) { self.nanoseconds = nanoseconds }

    /// A deadline some time from now; nil means never.
    init(after duration: Duration?) {
        guard let duration else {
            self = .never
            return
        }
        let (seconds, attoseconds) = duration.components
        let bounded = max(0, min(seconds, 1_000_000_000))
        nanoseconds = Deadline.now + bounded * 1_000_000_000 + attoseconds / 1_000_000_000
    }

    /// What `poll(2)` takes: milliseconds left, rounded up, or -1 for never.
    var pollMilliseconds: Int32 {
        guard nanoseconds != .max else { return -1 }
        return Int32(clamping: max(0, (nanoseconds - Deadline.now + 999_999) / 1_000_000))
    }

    private static var now: Int64 {
        var time = timespec()
        clock_gettime(CLOCK_MONOTONIC, &time)
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}
