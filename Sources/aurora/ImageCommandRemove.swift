import ArgumentParser
import Groups
import Images
import Linux

/// `aurora image rm`.
struct ImageRemoveCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm", abstract: "Remove images that no group or function uses, and their copies in the store.", aliases: ["remove"])

    @Argument(help: ArgumentHelp("The images' names.", valueName: "name"), transform: { try ImageName($0) })
    var names: [ImageName]

    @Flag(name: [.short, .long], help: "Remove images in use, too; what runs keeps its own until it ends.")
    var force = false

    func validate() throws {
        guard !names.isEmpty else { throw ValidationError("Name at least one image; `aurora image ls` shows what there is.") }
    }

    /// The copy in the store; what groups have of it stays theirs.
    static func removeStream(_ name: ImageName) throws {
        guard let access = try StoreAccess.openIfPresent(CommandContext.data.storePath) else { return }
        try access.removeStream(GroupDirectory.streamName(image: name.description))
    }

    /// All that can be removed are removed; the first failure decides the exit status, all are told.
    func run() throws {
        var failed = false
        for name in names {
            do {
                try ImageCommand.images.remove(name, force: force)
                try Self.removeStream(name)
                print(name)
            } catch {
                Terminal.writeError("error: \(error)\n")
                failed = true
            }
        }
        if failed { throw ExitCode.failure }
    }
}
