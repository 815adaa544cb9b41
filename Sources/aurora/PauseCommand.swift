import ArgumentParser
import Groups

/// `aurora pause`: the machines of groups stand still.
struct PauseCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "pause", abstract: "Stop the processors of groups until resume.")

    @Argument(help: "Names of groups.") var names: [String]

    func run() throws {
        try CommandContext.forEach(names) { name in
            try ControlClient(try CommandContext.group(name)).pause()
            print(name)
        }
    }
}

/// `aurora resume`: paused groups go on.
struct ResumeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "resume", abstract: "Let paused groups go on.")

    @Argument(help: "Names of groups.") var names: [String]

    func run() throws {
        try CommandContext.forEach(names) { name in
            try ControlClient(try CommandContext.group(name)).resume()
            print(name)
        }
    }
}
