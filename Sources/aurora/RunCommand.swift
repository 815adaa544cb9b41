import AgentProtocol
import ArgumentParser
import FoundationEssentials
import Groups
import Images
import Linux

/// `aurora run`: makes a group and runs a program in it.
struct RunCommand: EngineCommand {
    static let configuration = CommandConfiguration(
        commandName: "run", abstract: "Run a program in a new group.",
        usage: "aurora run [OPTIONS] -- COMMAND [ARGUMENT ...]",
        discussion: """
            The exit code is the program's: 128 and the signal's number when a signal ended it, 127 when the command was not \
            found, 126 when it cannot be executed, 125 when Aurora failed.
            """)

    @Option(help: "The image whose root file system the program sees; the group's writes stay its own.")
    var image = "base"

    @Option(help: "The group's name; made up when absent.")
    var name: String?

    @Option(name: [.customShort("m", allowingJoined: true), .long], help: "Memory, for example 256M or 8G.")
    var memory = MemorySize.format(MemorySize.groupBytesDefault)

    @Option(
        name: [.customShort("p"), .customLong("publish")], parsing: .singleValue,
        help: "Publish a TCP port: HOST:GUEST or ADDRESS:HOST:GUEST; on \(PortMapping.defaultHostAddress) unless an address is given.")
    var ports: [String] = []

    @Option(name: [.customShort("v"), .customLong("volume")], parsing: .singleValue, help: "Mount an ext4 disk file: FILE[:PATH[:ro]].")
    var volumes: [String] = []

    @Flag(name: .shortAndLong, help: "Leave the program running and print the group's name.")
    var detach = false

    @Flag(name: .customLong("rm"), help: "Remove the group when the program ends.")
    var remove = false

    @Option(help: "Seconds the guest may take to start.")
    var startTimeout = GroupConfiguration.startTimeoutSecondsDefault

    @OptionGroup var process: ProcessOptions

    @Argument(parsing: .postTerminator, help: "The program and its arguments.")
    var command: [String] = []

    func validate() throws {
        guard !command.isEmpty else { throw ValidationError("No command: write aurora run [OPTIONS] -- COMMAND [ARGUMENT ...]") }
        guard (1...3600).contains(startTimeout) else { throw ValidationError("--start-timeout must be 1 to 3600 seconds.") }
        do { _ = try wanted() } catch let error as GroupError { throw ValidationError(error.description) }
    }

    func run() throws {
        let wanted = try wanted()
        try checkFiles(wanted)
        let store = CommandContext.store
        let created = name == nil ? try store.createWithGeneratedName(wanted) : try store.create(wanted)
        let directory = created.directory
        let socket = try VMMLauncher.start(directory, lock: created.takeLock())
        let options = StdioClient.Options(
            forwardsInput: process.forwardsInput && !detach, terminal: process.terminal, detachesOnceStarted: detach)
        let outcome = try StdioClient(socket, options, onStarted: { RunCommand.tellWarnings(directory) }).run()
        if detach, case .detached = outcome { return print(directory.name) }
        if case .failed = outcome { forgetIfNothingRan(directory) }
        try outcome.finish(lost: "The VMM process of group \(directory.name) was killed, or failed; see \(directory.engineLogPath)")
    }

    /// The group as the options describe it.
    private func wanted() throws -> GroupConfiguration {
        var wanted = GroupConfiguration(
            name: try GroupName(name ?? "unnamed"), image: image, memoryBytes: try MemorySize.parseGroupMemory(memory), command: command)
        wanted.environment = process.variables
        wanted.directory = process.directory
        wanted.user = process.user
        wanted.terminal = process.terminal
        wanted.wantsInput = process.interactive
        wanted.ports = try ports.map { try PortMapping(parsing: $0) }
        let here = FileManager.default.currentDirectoryPath
        wanted.volumes = try volumes.map { try VolumeMapping(parsing: $0, currentDirectory: here) }
        wanted.removeWhenEnded = remove
        wanted.startTimeoutSeconds = startTimeout
        guard wanted.volumes.count <= VolumeMapping.countMax else {
            throw GroupError(.invalidValue, "\(wanted.volumes.count) volumes are more than the \(VolumeMapping.countMax) a group can have")
        }
        return wanted
    }

    /// Finds out what is missing before anything is made.
    private func checkFiles(_ wanted: GroupConfiguration) throws {
        _ = try ImageCommand.images.open(try ImageName(wanted.image))
        _ = try ImageCommand.kernels.current()
        for volume in wanted.volumes where !FileManager.default.isReadableFile(atPath: volume.file) {
            throw GroupError(
                .host, "Cannot open volume \(volume.file): it does not exist or is not readable",
                remedy: "Make one with: truncate -s 1G FILE && mkfs.ext4 FILE")
        }
    }

    private static func tellWarnings(_ directory: GroupDirectory) {
        for warning in (try? directory.status())?.warnings ?? [] { Terminal.writeError("warning: \(warning)\n") }
    }

    /// A group whose machine never started holds nothing to look at, and its name should be free for the next try.
    private func forgetIfNothingRan(_ directory: GroupDirectory) {
        guard let status = try? directory.status(), status.state == .failed, status.mode == nil else { return }
        try? CommandContext.store.remove(directory.name)
    }
}
