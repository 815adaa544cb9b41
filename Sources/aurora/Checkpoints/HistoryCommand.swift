import ArgumentParser
import Groups

/// `aurora history`: the checkpoints of a group.
struct HistoryCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "history", abstract: "List the checkpoints of a group, oldest first.",
        discussion: """
            STOP is how long the group stood still, PAGES how many pages changed, NEW how many of them the store did not have, \
            WRITTEN what went to the disk. A line that begins with an older checkpoint is a restore or rollback to it. \
            The last line is what latest means: of a group that was stopped, the moment before its program was told to end.
            """)

    @Option(name: [.customShort("n"), .long], parsing: .unconditional, help: "Show only the latest so many; 0 shows all.")
    var limit = 100

    @Flag(help: "Show named checkpoints only.")
    var named = false

    @Option(parsing: .unconditional, help: "How to write the list: table or json.")
    var format = ListFormat.table

    @OptionGroup var store: StoreOptions

    @Argument(help: "The group's name.") var group: String

    func validate() throws {
        guard limit >= 0 else { throw ValidationError("--limit must not be negative.") }
    }

    func run() throws {
        let name = try GroupName(group)
        let access = try store.openForReading(for: name)
        var entries = try access.history(GroupDirectory.streamName(name))
        // What a running group has not flushed yet may still be lost.
        if let durable = HistoryCommand.durableNumber(name) {
            for index in entries.indices where entries[index].number > durable { entries[index].isDurable = false }
        }
        if named { entries = entries.filter { $0.name != nil } }
        if limit > 0 { entries = entries.suffix(limit) }
        if format == .json { return print(try CommandContext.json(entries)) }
        Table(
            ["NUMBER", "TIME", "NAME", "STOP", "PAGES", "NEW", "WRITTEN", "DURABLE", "FROM"],
            entries.map { entry in
                [
                    "\(entry.number)", entry.time, entry.name ?? "", entry.stopMicroseconds.map(CheckpointFormat.time) ?? "-",
                    "\(entry.pages)", "\(entry.newPages)", MemorySize.format(entry.writtenBytes), entry.isDurable ? "yes" : "no",
                    entry.origin ?? "",
                ]
            }
        ).print()
    }

    /// The newest checkpoint that a running group knows to be durable; nil when it does not run.
    private static func durableNumber(_ name: GroupName) -> UInt64? {
        guard let directory = try? CommandContext.store.find(name), (try? directory.isLive()) ?? false else { return nil }
        let backends = (try? ControlClient(directory).persistence())?.backends
        return backends?.first { $0.kind == .store }?.durableNumber
    }
}

/// Figures of checkpoints as people read them.
enum CheckpointFormat {
    /// Microseconds: `85us`, `1.2ms`, `3.1s`.
    static func time(_ microseconds: Double) -> String {
        if microseconds < 1000 { return "\(Int(microseconds.rounded()))us" }
        if microseconds < 1_000_000 { return "\(tenths(microseconds / 1000))ms" }
        return "\(tenths(microseconds / 1_000_000))s"
    }

    /// A number with one digit behind the point, and none where it is zero.
    static func tenths(_ value: Double) -> String {
        guard value.isFinite, abs(value) < 1e15 else { return "?" }
        let tenths = Int((value * 10).rounded())
        return tenths % 10 == 0 ? "\(tenths / 10)" : "\(tenths / 10).\(abs(tenths % 10))"
    }
}
