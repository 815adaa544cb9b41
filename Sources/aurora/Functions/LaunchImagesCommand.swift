import ArgumentParser
import Groups
import Snapshot

/// Makes launch images, or checks those there are.
struct LaunchImagesCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "launch-images", abstract: "Make launch images of checkpoints, and print their digests as JSON.")

    @Option(help: "The stream of the runtime's checkpoint.") var runtime: String
    @Option(help: "The stream of the function's checkpoint; absent: the runtime itself.") var function: String?
    @Flag(help: "Removes all other launch images.") var tidy = false

    private struct Digests: Encodable {
        let runtime: String
        let function: String
    }

    func run() throws {
        let data = CommandContext.data
        let source = try LaunchSource(try StoreAccess.open(data.storePath), data)
        let images = try source.images(runtime: runtime, function: function)
        let digests = Digests(runtime: images.runtime.manifest.digest, function: images.function.manifest.digest)
        if tidy { source.cache.removeUnused { [digests.runtime, digests.function] } }
        print(try CommandContext.json(digests))
    }
}
