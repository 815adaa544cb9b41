import ArgumentParser
import Groups

/// `aurora checkpoint`: one more checkpoint, now, and durable when the command returns.
struct CheckpointCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "checkpoint", abstract: "Checkpoint a group now, and wait until the checkpoint is durable.",
        discussion: """
            Prints the checkpoint's number. A named one is kept until it is removed. When it is not durable in time the command says \
            what it waits for and ends with 1; the group runs on.
            """)

    @Option(help: "Seconds to wait at most.")
    var timeout = CheckpointReceipt.secondsDefault

    @Option(parsing: .unconditional, help: "How to write the answer: table or json.")
    var format = ListFormat.table

    @Argument(help: "The group's name.") var group: String
    @Argument(help: "A name for the checkpoint.") var name: String?

    func validate() throws {
        guard CheckpointReceipt.secondsRange.contains(timeout) else { throw ValidationError("--timeout must be 0.1 to 86400 seconds.") }
        if let name { try CommandContext.validate { () throws(GroupError) in _ = try CheckpointName(name) } }
    }

    func run() throws {
        let receipt = try ControlClient(try CommandContext.runningGroup(group)).checkpoint(name: name, within: timeout)
        print(format == .json ? try CommandContext.json(receipt) : "\(receipt.number)")
    }
}
