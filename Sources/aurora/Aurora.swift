import ArgumentParser

/// The `aurora` command.
@main
struct Aurora: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "aurora", abstract: "A single level store for unmodified Linux applications.",
        subcommands: [BootCommand.self, ImageCommand.self])
}
