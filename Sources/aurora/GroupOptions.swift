import AgentProtocol
import ArgumentParser
import FoundationEssentials
import Groups
import Images
import Linux

/// What a new group is made of: shared by `run` and `persist`.
struct GroupOptions: ParsableArguments {
    static let exitCodes = """
        The exit code is the program's: 128 and the signal's number when a signal ended it, 127 when the command was not \
        found, 126 when it cannot be executed, 125 when Aurora failed.
        """

    @Option(parsing: .unconditional, help: "The image whose root file system the program sees; the group's writes stay its own.")
    var image = "base"

    @Option(parsing: .unconditional, help: "What to do when the image base or the kernel is not there: missing (make it) or never.")
    var pull = PullRule.missing

    @Option(parsing: .unconditional, help: "The group's name; made up when absent.")
    var name: String?

    @Option(name: [.customShort("m", allowingJoined: true), .long], parsing: .unconditional, help: "Memory, for example 256M or 8G.")
    var memory = MemorySize.format(MemorySize.groupBytesDefault)

    @Option(
        name: [.customShort("p"), .customLong("publish")], parsing: .unconditionalSingleValue,
        help: "Publish a TCP port: HOST:GUEST or ADDRESS:HOST:GUEST; on \(PortMapping.defaultHostAddress) unless an address is given.")
    var ports: [String] = []

    @Option(
        name: [.customShort("v"), .customLong("volume")], parsing: .unconditionalSingleValue,
        help: "Mount an ext4 disk file: FILE[:PATH[:ro]].")
    var volumes: [String] = []

    @Flag(name: .shortAndLong, help: "Leave the program running and print the group's name.")
    var detach = false

    @Flag(name: .customLong("rm"), help: "Remove the group when the program ends, or its process was killed (docs/control-api.md).")
    var remove = false

    @Option(
        parsing: .unconditional, help: ArgumentHelp("How long the guest may take to start: 30, 2m.", valueName: "time"),
        transform: TimeSpan.wholeOption)
    var startTimeout = GroupConfiguration.startTimeoutSecondsDefault

    @Option(
        parsing: .unconditional, help: "The signal with which aurora stop asks the program to end; the image's, else TERM.",
        transform: SignalName.option)
    var stopSignal: SignalName?

    @Option(
        parsing: .unconditional,
        help: "What keeps programs apart from their kernel in a pv guest: shared (nothing) or strict (slower); the image's, else shared.")
    var isolation: IsolationSetting?

    @OptionGroup var process: ProcessOptions

    @Option(parsing: .unconditional, help: "The store: a file or a block device; $AURORA_STORE or the data directory's own when absent.")
    var store: String?

    @Argument(parsing: .postTerminator, help: "The program and its arguments; what the image says when absent.")
    var command: [String] = []

    func validate() throws {
        guard !command.isEmpty || imageDefaults?.arguments.isEmpty == false else {
            throw ValidationError("No command: write aurora run [OPTIONS] -- COMMAND [ARGUMENT ...]")
        }
        guard (1...3600).contains(startTimeout) else { throw ValidationError("--start-timeout must be 1 to 3600 seconds.") }
        do { _ = try wanted() } catch let error as GroupError { throw ValidationError(error.description) }
    }

    /// How the image's program is run; nil when it does not say, or is not there.
    var imageDefaults: ProcessDefaults? { (try? ImageName(image)).flatMap { try? ImageCommand.images.open($0) }?.manifest.process }

    /// The group as the options describe it, and the image where they say nothing.
    func wanted(_ persistence: PersistenceSettings? = nil) throws -> GroupConfiguration {
        var wanted = GroupConfiguration(
            name: try GroupName(name ?? "unnamed"), image: image, memoryBytes: try MemorySize.parseGroupMemory(memory), command: command)
        wanted.environment = process.variables
        wanted.directory = process.directory
        wanted.user = process.user
        wanted.stopSignal = stopSignal?.number
        wanted.isolation = isolation
        if let defaults = imageDefaults { try wanted.complete(with: defaults) }
        wanted.terminal = process.terminal
        wanted.wantsInput = process.interactive
        wanted.ports = try ports.map { try PortMapping(parsing: $0) }
        let here = FileManager.default.currentDirectoryPath
        wanted.volumes = try volumes.map { try VolumeMapping(parsing: $0, currentDirectory: here) }
        wanted.removeWhenEnded = remove
        wanted.startTimeoutSeconds = startTimeout
        wanted.persistence = persistence
        wanted.storePath = store.map { $0.hasPrefix("/") ? $0 : "\(here)/\($0)" } ?? CommandContext.data.foreignStorePath
        guard wanted.volumes.count <= VolumeMapping.countMax else {
            throw GroupError(.invalidValue, "\(wanted.volumes.count) volumes are more than the \(VolumeMapping.countMax) a group can have")
        }
        try wanted.requireFitting()
        return wanted
    }
}

/// When images are made by the way.
enum PullRule: String, ExpressibleByArgument, CaseIterable {
    case missing
    case never
}

extension GroupConfiguration {
    /// Takes over from the image what was not said.
    ///
    /// - Throws: `GroupError` (`.invalidValue`) for a signal or an isolation that there is not.
    mutating func complete(with defaults: ProcessDefaults) throws(GroupError) {
        if stopSignal == nil, !defaults.stopSignal.isEmpty {
            do throws(GroupError) {
                stopSignal = try SignalName(parsing: defaults.stopSignal).number
            } catch {
                throw GroupError(
                    .invalidValue,
                    "Image \(image) wants to be stopped by a signal that there is not: \"\(defaults.stopSignal.prefix(40))\"",
                    remedy: "Name another with --stop-signal.")
            }
        }
        if command.isEmpty { command = defaults.arguments }
        let said = Set(environment.map { $0.prefix { $0 != "=" } })
        environment = defaults.environment.filter { !said.contains($0.prefix { $0 != "=" }) } + environment
        if directory.isEmpty { directory = defaults.directory }
        if user.isEmpty { user = defaults.user }
        if isolation == nil { isolation = try IsolationSetting(ofImage: image, defaults) }
    }
}
