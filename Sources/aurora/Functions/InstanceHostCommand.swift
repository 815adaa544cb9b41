import ArgumentParser
import Linux

/// The process that forks instances of one runtime; started by the pool, never by hand.
struct InstanceHostCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "instance-host", abstract: "The process that makes instances of functions.", shouldDisplay: false)

    @Option(help: "The directory of launch images.") var launch: String
    @Option(help: "The digest of the runtime's launch image.") var base: String

    func run() throws {
        guard let socket = VMMCommand.inherit(InstanceHost.socketDescriptor) else {
            throw ValidationError("instance-host is started by aurora serve, not by hand")
        }
        InstanceHost.run(socket, launchPath: launch, base: base)
    }
}
