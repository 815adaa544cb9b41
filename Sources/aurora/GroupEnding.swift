import CLinux
import Groups

/// Waiting for, and if need be forcing, the end of a group's VMM process.
enum GroupEnding {
    /// What an orderly end may take beyond what the user granted: a last checkpoint before it, and a program that has to be killed.
    static let graceSeconds = 35

    /// Waits until the VMM process is gone.
    static func wait(_ directory: GroupDirectory, seconds: Int) throws(GroupError) {
        let deadline = clinux_monotonic_milliseconds() + Int64(seconds) * 1000
        while try directory.isLive() {
            guard clinux_monotonic_milliseconds() < deadline else {
                throw GroupError(
                    .host, "Group \(directory.name) did not end within \(seconds) seconds",
                    remedy: "End it with: aurora rm --force \(directory.name)")
            }
            usleep(5000)
        }
    }

    /// Ends a group at once: by its control socket, or, if that does not answer, by killing its process.
    static func force(_ directory: GroupDirectory) throws(GroupError) {
        guard try directory.isLive() else { return }
        do throws(GroupError) {
            try ControlClient(directory).powerCut()
            return try wait(directory, seconds: 5)
        } catch {
            guard try directory.isLive() else { return }
            // The process that holds the lock wrote its number there itself, whatever became of the group's other files.
            if let process = directory.holder { _ = clinux_kill(process, SIGKILL) }
        }
        try wait(directory, seconds: 5)
    }
}
