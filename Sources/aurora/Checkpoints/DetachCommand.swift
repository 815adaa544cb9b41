import ArgumentParser
import Groups

/// `aurora detach`: takes backends away from running groups.
struct DetachCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "detach", abstract: "Stop sending the checkpoints of a running group to a backend.",
        discussion: "What is durable there stays. Without any backend the group is not checkpointed any more; attach one again with: "
            + "aurora attach GROUP --backend store. A backend that does not answer in time is let go all the same: the command says what "
            + "it was at and ends with 1, and what was not durable there may be lost.")

    @Option(
        name: .customLong("backend"), parsing: .unconditionalSingleValue, help: "Which: store or memory; all when absent. May be repeated.")
    var backends: [String] = []

    @Option(help: "Seconds to wait at most for what is on its way to each.")
    var timeout = CheckpointReceipt.secondsDefault

    @Argument(help: "The group's name.") var group: String

    func validate() throws {
        guard CheckpointReceipt.secondsRange.contains(timeout) else { throw ValidationError("--timeout must be 0.1 to 86400 seconds.") }
        try CommandContext.validate { () throws(GroupError) in for backend in backends { _ = try BackendKind(parsing: backend) } }
    }

    func run() throws {
        let control = ControlClient(try CommandContext.runningGroup(group))
        let kinds = backends.isEmpty ? try control.persistence().backends.map(\.kind) : try backends.map { try BackendKind(parsing: $0) }
        guard !kinds.isEmpty else { throw GroupError(.notRunning, "Group \(group) has no backend") }
        for kind in kinds { try control.detach(kind, within: timeout) }
        print(group)
    }
}
