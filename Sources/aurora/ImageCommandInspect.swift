import ArgumentParser
import Images

/// `aurora image inspect`.
struct ImageInspectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "inspect", abstract: "Show an image's manifest as JSON: what is in it, sizes and digest.")

    @Argument(help: ArgumentHelp("The image's name.", valueName: "name"), transform: { try ImageName($0) })
    var name: ImageName

    func run() throws {
        ImageCommand.images.tidy()
        print(try ImageCommand.json(ImageDescription(try ImageCommand.images.open(name))))
    }
}
