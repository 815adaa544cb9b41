import ArgumentParser
import CLinux
import Functions
import Groups
import Images
import Linux
import Snapshot

/// `aurora image prune`.
struct ImagePruneCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "prune", abstract: "Remove what can be made again and nobody uses: launch images, old kernels, unfinished builds.",
        discussion: """
            With --all also images that no group or function uses, with their copies in the store; the image base stays. \
            Space within the store is given back by aurora gc.
            """)

    @Flag(name: [.short, .long], help: "Remove images that no group or function uses, too.")
    var all = false

    @Flag(name: [.customShort("n"), .long], help: "Only tell what would be removed.")
    var dryRun = false

    func run() throws {
        // What was not removed yet is told as it stands when a later step fails.
        var bytes = 0
        func tell(_ items: [UnusedItem]) {
            for item in items { print("\(item.kind) \(item.name): \(ImageCommand.readable(item.bytes))".visibleLine) }
            bytes += items.reduce(0) { $0 + $1.bytes }
        }
        tell(try ImageCommand.kernels.prune(dryRun: dryRun))
        tell(try launchImages())
        let images = try ImageCommand.images.prune(all: all, dryRun: dryRun)
        tell(images)
        if !dryRun {
            for image in images where image.kind == "image" { try ImageRemoveCommand.removeStream(try ImageName(image.name)) }
        }
        print("\(dryRun ? "Would free" : "Freed") \(ImageCommand.readable(bytes))")
    }

    /// Launch images of no deployed function; one that a gateway is about to use is made again.
    private func launchImages() throws -> [UnusedItem] {
        let data = CommandContext.data
        guard clinux_access(data.launchPath, F_OK) == 0 else { return [] }
        let cache = try LaunchCache(path: data.launchPath)
        // First what there is, then what is of use: what is made meanwhile stays.
        let found = cache.digests
        let functions = try Catalogue.deployed(path: "\(data.path)/functions")
        let kept = functions.isEmpty ? [] : try FunctionLaunches.digests(functions, data.storePath)
        let unused = found.filter { !kept.contains($0) }.map { digest in
            UnusedItem(kind: "launch image", name: digest, bytes: DiskUsage.bytes(cache.directory(digest)))
        }
        if !dryRun {
            for item in unused { cache.remove(item.name) }
            // All that is left is kept: only what killed builders left goes.
            cache.removeUnused { Set(cache.digests) }
        }
        return unused
    }
}
