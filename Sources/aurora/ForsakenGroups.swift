import Groups
import Linux

/// Groups of `--rm` whose process was killed and could not see to their removal: nobody waits for them any more.
enum ForsakenGroups {
    /// One that can be resumed is kept for so long after somebody found it dead: its program has not ended.
    static let keptSeconds = 86_400

    /// Removes what is left of them, history and all; those of others, and what cannot be removed, stay.
    static func collect() {
        for directory in (try? CommandContext.store.list()) ?? [] { try? collect(directory) }
    }

    private static func collect(_ directory: GroupDirectory) throws {
        let configuration = try directory.configuration()
        guard configuration.removeWhenEnded else { return }
        // Asked now, it is found out and the time written down.
        let status = try directory.status()
        guard status.state == .dead else { return }
        let access = try StoreAccess.openIfPresent(CommandContext.data.storePath(of: configuration))
        if let access, try access.hasStream(directory.streamName) {
            guard let found = status.endedAt.flatMap(Timestamp.nanoseconds(of:)),
                Timestamp.wallClockNanoseconds() - found > Int64(keptSeconds) * 1_000_000_000
            else { return }
            try access.removeStream(directory.streamName)
        }
        try CommandContext.store.remove(directory.name)
        Terminal.writeError("aurora: removed group \(directory.name) of --rm, whose process had died\n")
    }
}
