import AgentProtocol
import ArgumentParser
import Groups
import Linux

/// `aurora exec`: a further program in a running group.
struct ExecCommand: EngineCommand {
    static let configuration = CommandConfiguration(
        commandName: "exec", abstract: "Run a further program in a running group.",
        usage: "aurora exec [OPTIONS] NAME -- COMMAND [ARGUMENT ...]")

    @OptionGroup var process: ProcessOptions

    @Argument(help: "The group's name.") var name: String

    @Argument(parsing: .postTerminator, help: "The program and its arguments.")
    var command: [String] = []

    func validate() throws {
        guard !command.isEmpty else { throw ValidationError("No command: write aurora exec [OPTIONS] NAME -- COMMAND [ARGUMENT ...]") }
    }

    func run() throws {
        let directory = try CommandContext.runningGroup(name)
        let request = StartRequest(
            arguments: command.map(Text.init(argument:)), environment: process.variables.map(Text.init(argument:)),
            directory: Text(argument: process.directory), user: Text(argument: process.user),
            terminal: process.terminal ? TerminalMode.size(of: 0) ?? TerminalMode.sizeDefault : nil, wantsInput: process.forwardsInput)
        try GroupAgent.requireFitting(request)
        let socket = try GroupAgent.openSession(directory)
        let options = StdioClient.Options(
            forwardsInput: process.forwardsInput, terminal: process.terminal, initialWindow: AgentLimits.stdinWindowBytes)
        let client = StdioClient(socket, options)
        client.request(start: request)
        let outcome = try client.run().describedByAgent
        try outcome.finish(lost: "The connection to group \(name) was lost; see: aurora ps -a")
    }
}

extension StdioClient.Outcome {
    /// The same with the agent's terse reasons in words.
    fileprivate var describedByAgent: StdioClient.Outcome {
        guard case .failed(let failure) = self else { return self }
        return .failed(Failure(failure.code, Text(GroupAgent.describe(failure))))
    }
}
