import ArgumentParser
import Groups

/// `aurora checkpoint`: one more checkpoint, now, and durable when the command returns.
struct CheckpointCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "checkpoint", abstract: "Checkpoint a group now, and wait until the checkpoint is durable.",
        discussion: "Prints the checkpoint's number. A named one is kept until it is removed.")

    @Option(parsing: .unconditional, help: "How to write the answer: table or json.")
    var format = ListFormat.table

    @Argument(help: "The group's name.") var group: String
    @Argument(help: "A name for the checkpoint.") var name: String?

    func validate() throws {
        if let name { try CommandContext.validate { () throws(GroupError) in _ = try CheckpointName(name) } }
    }

    func run() throws {
        let receipt = try ControlClient(try CommandContext.runningGroup(group)).checkpoint(name: name)
        print(format == .json ? try CommandContext.json(receipt) : "\(receipt.number)")
    }
}
