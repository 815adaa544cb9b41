import ArgumentParser
import CLinux
import Groups
import Linux

/// The VMM process of one group; started by `run`, never by hand.
struct VMMCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "vmm", abstract: "The VMM process of a group.", shouldDisplay: false)

    @Option(help: "The group's name.") var group: String
    @Option(help: "The checkpoint to go on from, as STREAM@NUMBER.") var restore: String?

    /// Understands what `VMMLauncher` writes without the parser, which takes as long as a quarter of a restore's process start.
    ///
    /// - Returns: nil for anything else.
    static func launched(_ arguments: [String]) -> (group: String, restore: String?)? {
        guard arguments.count == 4 || arguments.count == 6, arguments[1] == configuration.commandName, arguments[2] == "--group" else {
            return nil
        }
        guard arguments.count == 6 else { return (arguments[3], nil) }
        return arguments[4] == "--restore" ? (arguments[3], arguments[5]) : nil
    }

    func run() throws { try VMMCommand.run(group: group, restore: restore) }

    /// Is the VMM process of a group, to its end.
    ///
    /// - Throws: when it cannot begin.
    static func run(group: String, restore: String?) throws {
        let data = CommandContext.data
        let name = try GroupName(group)
        guard let lock = VMMCommand.inherit(VMMLauncher.lockDescriptor), let client = VMMCommand.inherit(VMMLauncher.clientDescriptor)
        else {
            throw GroupError(.invalidValue, "vmm is started by aurora run, not by hand", remedy: "Use: aurora run -- COMMAND")
        }
        // Nothing of the caller's is kept in use: neither its directory nor its limit of open files.
        _ = chdir("/")
        _ = clinux_descriptor_limit_raise()
        clinux_ignore_signal(SIGPIPE)
        let signals = [SIGTERM, SIGINT, SIGHUP]
        let number = try systemCall("receive", "signals") { clinux_signal_descriptor(signals, Int32(signals.count)) }
        let termination = SharedDescriptor(OwnedDescriptor(adopting: Int32(number)))
        let configuration = try GroupDirectory(name: name, in: data).configuration()
        // Before it has threads and memory, which would stay where they are.
        try GroupCgroup(OwnProcess.environment)?.enter(name, memoryBytes: configuration.memoryBytes)
        let storePath = data.storePath(of: configuration)
        let origin = restore.flatMap { CheckpointAddress(parsing: $0) }
        guard restore == nil || origin != nil else { throw GroupError(.invalidValue, "--restore takes STREAM@NUMBER") }
        let opening = origin.map { CheckpointOpening($0, for: GroupDirectory.streamName(name), storePath: storePath) }
        let runtime = try GroupRuntime(
            name, in: data, restoring: origin, terminationSignals: termination, beginRestore: { opening?.begin() },
            readContext: { try opening?.value().context ?? GroupRuntime.refuseContext($0) },
            makeMachine: { try VirtualMachineMaker.make($0, opening) })
        let code = runtime.run(lock: GroupLock(adopting: lock), client: SharedDescriptor(client))
        // The group's files are gone; so must be its history.
        if configuration.removeWhenEnded { removeHistory(of: name, storePath) }
        // The end of the process is the end of everything in it: no thread needs to be waited for.
        _exit(code)
    }

    /// How long the removal of a history may take: a disk that does not answer must not keep the process.
    private static let removalSeconds = 10.0

    private static func removeHistory(of name: GroupName, _ storePath: String) {
        let done = PromisedAnswer<Bool>()
        let remove = { @Sendable in
            try? StoreAccess.openIfPresent(storePath)?.removeStream(GroupDirectory.streamName(name))
            done.set(true)
        }
        guard (try? DetachedThread.start("removal", remove)) != nil else { return remove() }
        if done.wait(seconds: removalSeconds, unless: { false }) == nil {
            EngineMessage.write("The history of \(name) has not been removed within \(Int(removalSeconds)) s: a disk may not answer")
        }
    }

    /// Takes over a descriptor the launcher passed; nil when there is none.
    static func inherit(_ number: Int32) -> OwnedDescriptor? {
        guard clinux_fcntl(number, F_SETFD, Int(FD_CLOEXEC)) == 0 else { return nil }
        return OwnedDescriptor(adopting: number)
    }
}
