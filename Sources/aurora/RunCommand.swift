import ArgumentParser
import Groups

/// `aurora run`: makes a group and runs a program in it.
struct RunCommand: EngineCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Run a program in a new group.",
        usage: "aurora run [OPTIONS] [-- COMMAND [ARGUMENT ...]]", discussion: GroupOptions.exitCodes)

    @OptionGroup var options: GroupOptions

    func run() throws { try GroupStarter.start(try options.wanted(), options) }
}
