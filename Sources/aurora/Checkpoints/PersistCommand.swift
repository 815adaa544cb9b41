import ArgumentParser
import CLinux
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

    @Option(
        name: .customLong("wait-durable"),
        help: "With --detach: wait up to so many seconds until the first checkpoint is durable; ends with 125 if it is not by then.")
    var waitDurable: Double?

    @OptionGroup var options: GroupOptions

    func validate() throws {
        if let waitDurable {
            guard CheckpointReceipt.secondsRange.contains(waitDurable) else {
                throw ValidationError("--wait-durable must be 0.1 to 86400 seconds.")
            }
            guard options.detach else { throw ValidationError("--wait-durable needs --detach.") }
        }
        try CommandContext.validate { () throws(GroupError) in _ = try settings() }
    }

    func run() throws {
        try GroupStarter.start(try options.wanted(try settings()), options) { directory in
            if let waitDurable { try PersistCommand.wait(directory, seconds: waitDurable) }
        }
    }

    private static let lookMicroseconds: UInt32 = 20_000

    /// Waits until a checkpoint is durable at each backend.
    private static func wait(_ directory: GroupDirectory, seconds: Double) throws {
        let control = ControlClient(directory)
        let begin = clinux_monotonic_milliseconds()
        while true {
            let report = try control.persistence()
            if !report.backends.isEmpty, report.backends.allSatisfy({ $0.durableNumber != nil }) { return }
            guard Double(clinux_monotonic_milliseconds() - begin) < seconds * 1000 else {
                let why = report.health.reason ?? "There is no checkpoint yet"
                throw GroupError(
                    .timeout, "Group \(directory.name) runs, and is not durable after \(CheckpointFormat.tenths(seconds)) s. \(why)",
                    remedy: "See when it is with: aurora ps \(directory.name)")
            }
            // Where none is made by the clock, one has to be asked for.
            if report.period.microseconds == nil {
                let left = seconds - Double(clinux_monotonic_milliseconds() - begin) / 1000
                _ = try control.checkpoint(within: max(left, CheckpointReceipt.secondsRange.lowerBound))
            }
            usleep(lookMicroseconds)
        }
    }

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
