import ArgumentParser
import Groups

/// `aurora persist`: as `run`, with checkpoints from the moment the program runs.
struct PersistCommand: EngineCommand {
    static let configuration = CommandConfiguration(
        commandName: "persist", abstract: "Run a program in a new group that is checkpointed while it runs.",
        usage: "aurora persist [OPTIONS] [-- COMMAND [ARGUMENT ...]]",
        discussion: """
            Memory, processor, devices and disks are checkpointed together. After a crash of the group's process or of the host the \
            group goes on with: aurora restore NAME. A file given with --volume is copied into the store when the group is made; \
            the file itself is not written.

            \(GroupOptions.exitCodes)
            """)

    @Option(parsing: .unconditional, help: "Time between checkpoints (10ms, 1s) or their rate (100/s); off: only by aurora checkpoint.")
    var period = "\(PersistencePeriod.standard)"

    @Option(
        parsing: .unconditional,
        help: "History to keep: standard, all, or the number of the latest checkpoints. Named ones are always kept.")
    var history = "\(HistoryRule.standard)"

    @Option(
        parsing: .unconditional,
        help: "Room in the store for the history; the oldest checkpoints go first (default: half of the free disk, for all groups).")
    var historyBytes: String?

    @Option(
        name: .customLong("backend"), parsing: .unconditionalSingleValue, help: "Where checkpoints go: store or memory. May be repeated.")
    var backends: [String] = []

    @OptionGroup var options: GroupOptions

    func validate() throws {
        try CommandContext.validate { () throws(GroupError) in _ = try settings() }
    }

    func run() throws { try GroupStarter.start(try options.wanted(try settings()), options) }

    private func settings() throws(GroupError) -> PersistenceSettings {
        var settings = PersistenceSettings()
        settings.period = try PersistencePeriod(parsing: period)
        settings.history = try HistoryRule(parsing: history)
        if let historyBytes {
            let bytes = try MemorySize.parse(historyBytes)
            guard bytes >= PersistenceSettings.historyBytesMin else {
                throw GroupError(
                    .invalidValue, "A history of \(historyBytes.prefix(40)) is too small",
                    remedy: "It needs at least \(MemorySize.format(PersistenceSettings.historyBytesMin)).")
            }
            settings.historyBytes = bytes
        }
        var kinds: [BackendKind] = []
        for backend in backends {
            let kind = try BackendKind(parsing: backend)
            if !kinds.contains(kind) { kinds.append(kind) }
        }
        if !kinds.isEmpty { settings.backends = kinds }
        return settings
    }
}
