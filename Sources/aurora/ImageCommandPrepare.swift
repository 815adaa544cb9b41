import ArgumentParser
import Images
import Linux

/// `aurora image prepare`: what every group needs, the newest kernel and the base image.
struct ImagePrepareCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prepare", abstract: "Fetch the newest kernel and build the base image: what every group needs.",
        discussion: "aurora run and persist do the same at their first use. Done again, it takes a newer kernel if there is one.")

    @Flag(help: "Keep a kernel that is there without asking for a newer one.")
    var offline = false

    @OptionGroup var progress: ProgressOptions

    func run() throws {
        let (kernel, base) = try progress.during {
            let kernel = try ImageCommand.kernels.ensure(offline ? .present : .newest, progress: $0)
            return (kernel, try ImageCommand.images.ensureBase(progress: $0))
        }
        print("kernel \(kernel.manifest.release) (\(kernel.manifest.version))".visibleLine)
        print("image \(base.name) (\(base.manifest.packages.count) packages)")
    }
}
