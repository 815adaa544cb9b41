import ArgumentParser
import Groups

/// `aurora rollback`: puts a running group back to a checkpoint of its own.
struct RollbackCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rollback", abstract: "Put a running group back to a checkpoint of its own, in place.",
        discussion: "What happened since the checkpoint is undone, lastingly: a crash does not bring it back. Checkpoints that were taken "
            + "since are kept. All connections to its published ports are reset.")

    @Option(
        name: [.customLong("to"), .customLong("at")], parsing: .unconditional,
        help: "Which checkpoint: latest, a number, a name, a time or an age (-30s).")
    var selector = "latest"

    @Argument(help: "The group's name.") var group: String

    func validate() throws {
        try CommandContext.validate { () throws(GroupError) in _ = try CheckpointChoice(parsing: selector) }
    }

    func run() throws {
        try ControlClient(try CommandContext.runningGroup(group)).rollback(to: selector)
        print(group)
    }
}
