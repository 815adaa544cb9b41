import Synchronization

/// The one writer of a group's status: what is in the file only ever gets newer, whoever asks for it to be written.
final class StatusFile: Sendable {
    private let directory: GroupDirectory
    /// How many changes there were.
    private let changes = Atomic<UInt64>(0)
    /// How many of them the file has; held while it is written.
    private let saved = Mutex<UInt64>(0)

    /// Names the group, whose lock the caller holds; what a killed predecessor left beside the file goes.
    init(_ directory: GroupDirectory) {
        self.directory = directory
        directory.removeLeftovers()
    }

    /// Writes the status as it is now; returns when the file has it, or something newer.
    ///
    /// - Parameter current: asked when it is this caller's turn; several changes may be written at once.
    /// - Throws: `GroupError` when the file cannot be written.
    func save(_ current: () -> GroupStatus) throws(GroupError) {
        let wanted = changes.add(1, ordering: .acquiringAndReleasing).newValue
        try saved.withLock { saved throws(GroupError) in
            guard saved < wanted else { return }
            // Counted before the status is asked for: it then holds all changes up to this number.
            let seen = changes.load(ordering: .acquiring)
            try directory.write(current())
            saved = seen
        }
    }
}
