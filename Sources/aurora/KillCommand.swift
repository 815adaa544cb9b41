import ArgumentParser
import Groups

/// `aurora kill`: a signal to the programs of groups.
struct KillCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "kill", abstract: "Send a signal to the programs of groups.")

    @Option(name: .shortAndLong, parsing: .unconditional, help: "The signal's name or number.", transform: SignalName.option)
    var signal = SignalName.kill

    @Argument(help: "Names of groups.") var names: [String]

    func run() throws {
        try CommandContext.forEach(names) { name in
            let directory = try CommandContext.group(name)
            let status = try directory.status()
            guard status.isLive else { throw GroupError(.notRunning, "Group \(name) is not running but \(status.state.rawValue)") }
            // A machine that is paused, or still starting, has no program that could take a signal: the machine itself ends.
            if signal == .kill, status.state != .running {
                try GroupEnding.force(directory)
            } else {
                try ControlClient(directory).kill(signal: signal.number)
            }
            print(name)
        }
    }
}
