import ArgumentParser
import Groups
import Images

/// `aurora image build`.
struct ImageBuildCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "build", abstract: "Build an image of Debian packages.",
        discussion: """
            The packages come from the Debian archive that this host's own apt configuration names. An image that was built
            from the same inputs is kept; --refresh builds it again, with the versions the archive has now.
            """)

    @Argument(help: ArgumentHelp("The image's name.", valueName: "name"), transform: { try ImageName($0) })
    var name: ImageName

    @Option(
        parsing: .unconditional, help: ArgumentHelp("Debian packages to install, separated by commas.", valueName: "a,b,c"),
        transform: { try PackageRequest.list($0) })
    var packages: [PackageRequest]

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Python packages to install with this host's pip, wheels only, separated by commas; the image needs python3.",
            valueName: "a,b,c"),
        transform: { try PipRequest.list($0) })
    var pip: [PipRequest] = []

    @Option(parsing: .unconditional, help: "The size of the root file system; the file is sparse.", transform: { try ImageSize($0) })
    var size: ImageSize = .standard

    @Option(parsing: .unconditional, help: "What its groups and functions have unless they say otherwise: shared or strict.")
    var isolation: IsolationSetting?

    @Flag(help: "Build even if an image of the same inputs is there.")
    var refresh = false

    @OptionGroup var progress: ProgressOptions

    func run() throws {
        let labels = isolation.map { [IsolationSetting.label: $0.rawValue] } ?? [:]
        let image = try progress.during {
            try ImageCommand.images.build(name, packages: packages, pip: pip, size: size, labels: labels, refresh: refresh, progress: $0)
        }
        print(image.name)
    }
}
