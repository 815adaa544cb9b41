import ArgumentParser
import Images

/// `aurora image prepare`: what every group needs, the newest kernel and the base image.
struct ImagePrepareCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prepare", abstract: "Fetch the newest kernel and build the base image.", shouldDisplay: false)

    @Flag(help: "Keep a kernel that is there without asking for a newer one.")
    var offline = false

    func run() throws {
        let kernel = try ImageCommand.kernels.ensure(offline ? .present : .newest, progress: ImageCommand.progress)
        let base = try ImageCommand.images.ensureBase(progress: ImageCommand.progress)
        print("kernel \(kernel.manifest.release) (\(kernel.manifest.version))")
        print("image \(base.name) (\(base.manifest.packages.count) packages)")
    }
}
