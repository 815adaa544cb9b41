import ArgumentParser
import CLinux
import Groups
import Images
import Linux

/// `aurora image import`.
struct ImageImportCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "import", abstract: "Import an image of another engine: an OCI layout, or what docker save writes.",
        usage: """
            aurora image import oci:DIRECTORY[:TAG] [NAME]
            aurora image import oci-archive:FILE[:TAG] [NAME]
            aurora image import docker-archive:FILE[:REFERENCE] [NAME]
            """,
        discussion: """
            Every digest is verified before anything is used; an image that is damaged, hostile or too large is refused and leaves \
            nothing. Of several variants of an architecture the best that this processor runs is taken. Entry point, command, \
            environment, user and working directory of the image are what \
            aurora run starts when no command is given.
            """)

    @Argument(help: ArgumentHelp("Where the image is.", valueName: "source"), transform: { try ImageReference($0) })
    var reference: ImageReference

    @Argument(help: ArgumentHelp("The image's name; that of the source when absent.", valueName: "name"), transform: { try ImageName($0) })
    var name: ImageName?

    @Option(
        parsing: .unconditional, help: "The size of the root file system; twice what is in it, 4G at least, when absent.",
        transform: { try ImageSize($0) })
    var size: ImageSize?

    @Option(parsing: .unconditional, help: "The most that the layers may unpack to, for example 8G.")
    var unpackedMax = MemorySize.format(ImportLimits().unpackedBytesMax)

    @OptionGroup var progress: ProgressOptions

    func validate() throws {
        try CommandContext.validate { () throws(GroupError) in _ = try MemorySize.parse(unpackedMax) }
    }

    func run() throws {
        guard let name = name ?? reference.suggestedName else { throw ImageError.nameNeeded(reference.description) }
        try Self.keepOwners()
        var limits = ImportLimits()
        limits.unpackedBytesMax = try MemorySize.parse(unpackedMax)
        let image = try progress.during {
            try ImageCommand.images.importImage(reference, as: name, size: size, limits: limits, progress: $0)
        }
        print(image.name)
    }

    /// An ordinary user's files have one owner: `fakeroot` makes this program and mke2fs see those of the image.
    static func keepOwners() throws {
        guard geteuid() != 0 else { return }
        // Not the link itself: fakeroot is a script, whose own program it would be then.
        var path = [CChar](repeating: 0, count: 4096)
        let count = clinux_readlink("/proc/self/exe", &path, path.count)
        guard count > 0, count < path.count else { throw ImageError.ownersNeeded }
        let program = String(decoding: path.prefix(count).map(UInt8.init(bitPattern:)), as: UTF8.self)
        // Who runs under fakeroot seems to be root, whose directories are others.
        setenv("AURORA_HOME", ImageCommand.dataPath, 1)
        var arguments = (["fakeroot", "--", program] + CommandLine.arguments.dropFirst()).map { strdup($0) } + [nil]
        execvp("fakeroot", &arguments)
        throw ImageError.ownersNeeded
    }
}
