internal import CLinux
internal import Linux

/// The right to build one thing, held by at most one process (with its children) at a time.
///
/// It is an flock(2) on a file that stays: the kernel gives it back when the last descriptor of it is closed, so no
/// crash leaves it held.
final class BuildLock: Sendable {
    private let file: OwnedDescriptor

    private init(_ file: consuming OwnedDescriptor) { self.file = file }

    /// The descriptor's number, for children that are to hold the lock too.
    var descriptor: Int32 { file.rawValue }

    /// Takes the lock.
    ///
    /// - Parameters:
    ///   - attempts: how often it is tried, 20 ms apart, before somebody is said to hold it: a build's last child, or a process that is
    ///     just being started and has not let go of its parent's descriptors, holds it a moment longer than the build.
    ///   - onWait: called once when somebody else holds it; returning false gives up.
    /// - Returns: the lock and whether it had to be waited for; nil when given up.
    static func acquire(_ path: String, attempts: Int = 1, onWait: () -> Bool) throws(ImageError) -> (lock: BuildLock, waited: Bool)? {
        do {
            let file = try OwnedDescriptor.open(path, O_RDWR | O_CREAT, mode: 0o600)
            let number = file.rawValue
            for attempt in 1...attempts {
                do {
                    try systemCall("lock", path) { clinux_flock(number, LOCK_EX | LOCK_NB) }
                    return (BuildLock(file), false)
                } catch  where error.errno == .wouldBlock {
                    if attempt < attempts { usleep(20_000) }
                }
            }
            guard onWait() else { return nil }
            try systemCall("lock", path) { clinux_flock(number, LOCK_EX) }
            return (BuildLock(file), true)
        } catch { throw .system(error) }
    }
}
