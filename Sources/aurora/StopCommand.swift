import ArgumentParser
import Groups

/// `aurora stop`: asks programs to end, and makes them.
struct StopCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stop", abstract: "Stop groups: SIGTERM to the program, SIGKILL after some seconds.",
        discussion: "A group with checkpoints in the store gets a last one before the signal, from which aurora restore goes on. When the "
            + "command returns, the group's name and ports are free. An image, or --stop-signal of aurora run and persist, may name "
            + "another signal than SIGTERM.")

    @Option(
        name: [.customShort("t", allowingJoined: true), .customLong("time")], parsing: .unconditional,
        help: ArgumentHelp("How long before SIGKILL: 10, 500ms, 2m.", valueName: "time"), transform: TimeSpan.wholeOption)
    var seconds = 10

    @Argument(help: "Names of groups.") var names: [String]

    func validate() throws {
        guard (0...86400).contains(seconds) else { throw ValidationError("--time must be 0 to 86400 seconds.") }
    }

    func run() throws {
        try CommandContext.forEach(names) { name in
            let directory = try CommandContext.group(name)
            guard try directory.isLive() else { return print(name) }
            try ControlClient(directory).stop(graceSeconds: seconds)
            try GroupEnding.wait(directory, seconds: seconds + GroupEnding.graceSeconds)
            print(name)
        }
    }
}
