import ArgumentParser
import Groups
import Linux

/// `aurora attach`: joins this terminal to a group's program, or a backend to the group (Table 1 of the paper).
struct AttachCommand: EngineCommand {
    static let configuration = CommandConfiguration(
        commandName: "attach", abstract: "Join this terminal to the program of a running group, or a backend to the group.",
        discussion: "With --backend the group is checkpointed to it from now on, whether it was started by persist or by run; "
            + "--period says how often.")

    @Option(
        name: .customLong("backend"), parsing: .unconditionalSingleValue, help: "Send checkpoints there: store or memory. May be repeated.")
    var backends: [String] = []

    @Option(parsing: .unconditional, help: "Time between checkpoints (10ms, 1s), their rate (100/s), or off; as it is when absent.")
    var period: String?

    @Argument(help: "The group's name.") var name: String

    func validate() throws {
        try CommandContext.validate { () throws(GroupError) in
            for backend in backends { _ = try BackendKind(parsing: backend) }
            if let period { _ = try PersistencePeriod(parsing: period) }
        }
    }

    func run() throws {
        guard backends.isEmpty, period == nil else { return try attachBackends() }
        let directory = try CommandContext.runningGroup(name)
        let configuration = try directory.configuration()
        let socket: SharedDescriptor
        do throws(SystemError) {
            socket = SharedDescriptor(try Socket.connect(unix: directory.attachSocketPath))
        } catch {
            throw GroupError(.notRunning, "Cannot attach to group \(name): \(error)")
        }
        let takesInput = configuration.wantsInput || configuration.terminal
        let outcome = try StdioClient(
            socket, StdioClient.Options(forwardsInput: takesInput, terminal: configuration.terminal, redraws: true)
        ).run()
        try outcome.finish(lost: "The connection to group \(name) was lost; see: aurora ps -a")
    }

    private func attachBackends() throws {
        let control = ControlClient(try CommandContext.runningGroup(name))
        if let period { try control.setPeriod(try PersistencePeriod(parsing: period)) }
        for backend in backends { try control.attach(try BackendKind(parsing: backend)) }
        print(name)
    }
}
