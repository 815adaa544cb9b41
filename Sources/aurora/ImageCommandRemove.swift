import ArgumentParser
import Images
import Linux

/// `aurora image rm`.
struct ImageRemoveCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm", abstract: "Remove images that no group uses.", aliases: ["remove"])

    @Argument(help: ArgumentHelp("The images' names.", valueName: "name"), transform: { try ImageName($0) })
    var names: [ImageName]

    @Flag(name: [.short, .long], help: "Remove images that groups use, too; groups that run keep theirs until they end.")
    var force = false

    func validate() throws {
        guard !names.isEmpty else { throw ValidationError("Name at least one image; `aurora image ls` shows what there is.") }
    }

    /// All that can be removed are removed; the first failure decides the exit status, all are told.
    func run() throws {
        var failed = false
        for name in names {
            do {
                try ImageCommand.images.remove(name, force: force)
                print(name)
            } catch {
                Terminal.writeError("Error: \(error)\n")
                failed = true
            }
        }
        if failed { throw ExitCode.failure }
    }
}
