/// What became of a group: `groups/NAME/status.json`, written by its VMM process alone.
public struct GroupStatus: Codable, Sendable, Hashable {
    /// The life of a group.
    public enum State: String, Codable, Sendable, Hashable {
        /// Made, its VMM not yet started.
        case created
        /// The machine boots.
        case starting
        /// The program runs.
        case running
        /// The machine stands still.
        case paused
        /// The program ended; `exitCode` says how.
        case exited
        /// The machine or the engine failed; `error` says why.
        case failed
        /// The VMM process was killed before it could say how the group ended.
        case dead
        /// The VMM process lives, but its status cannot be read and it does not answer.
        case unknown
    }

    /// The version of the file that this source writes and reads.
    public static let currentVersion = 1

    /// The version of the file.
    public var version = GroupStatus.currentVersion
    /// Where in its life the group is.
    public var state: State
    /// The VMM process, while it lives.
    public var processID: Int32?
    /// When the VMM started.
    public var startedAt: String?
    /// When the group ended.
    public var endedAt: String?
    /// Milliseconds from the start of the machine until its agent answered.
    public var startMilliseconds: Int?
    /// The status a shell would report for the program: its code, or 128 and the signal's number.
    public var exitCode: Int32?
    /// Why the group failed, or ended without a status of its program.
    public var error: String?
    /// What the user should know though the group runs, for example that it has no network.
    public var warnings: [GroupWarning] = []
    /// How the guest runs: `pv` or `hvm`.
    public var mode: String?
    /// The guest kernel's release.
    public var kernelRelease: String?
    /// Whether the group has a network device.
    public var hasNetwork = false
    /// The published ports with the numbers the kernel chose.
    public var ports: [PortMapping] = []
    /// The session of the program in the guest: its process number there.
    public var session: Int32?
    /// The checkpoint the machine went on from, for one that did not boot.
    public var restoredFrom: CheckpointAddress?
    /// What that took.
    public var restoreTimes: GroupRestoreTimes?
    /// How often the group was resumed or rolled back.
    public var restoreCount: Int?
    /// Whether it was to go on from a checkpoint and failed before its program ran: it is wanted yet.
    public var failedToResume: Bool?
    /// Where its checkpoints go now; nil for a group that is not persisted.
    public var backends: [BackendKind]?
    /// The last lines of the console when the machine failed.
    public var consoleTail: String?

    /// Describes a status.
    public init(state: State) { self.state = state }

    /// Whether a VMM process should be there.
    public var isLive: Bool {
        switch state {
        case .created, .starting, .running, .paused, .unknown: true
        case .exited, .failed, .dead: false
        }
    }
}
