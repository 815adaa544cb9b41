import ArgumentParser

/// The `aurora` command.
@main
struct Aurora: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "aurora", abstract: "A single level store for unmodified Linux applications.")
}
