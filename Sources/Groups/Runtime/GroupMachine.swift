public import Linux

/// How a machine ended.
public enum MachineOutcome: Sendable, Hashable {
    /// The guest powered itself off.
    case powerOff
    /// The guest asked to be started again.
    case reboot
    /// The guest's kernel gave up; the message names the reason.
    case panic(String)
    /// The machine could not go on: triple fault, an internal error of the VMM.
    case failed(String)
    /// It was told to stop.
    case stopped
}

/// What a group's runtime asks of a machine; the seam between groups and the VMM.
public protocol GroupMachine: Sendable {
    /// How the guest runs, for example `pv`.
    var modeName: String { get }
    /// The last lines of the guest's console.
    var consoleTail: String { get }
    /// Its checkpoints; nil when the machine cannot have any.
    var persistence: (any GroupPersistence)? { get }
    /// What it took to go on from a checkpoint, once it has started; nil for a machine that booted.
    var restoreTimes: GroupRestoreTimes? { get }
    /// Lets the machine run.
    func start() throws
    /// Stops its processors.
    func pause() throws
    /// Lets them go on.
    func resume() throws
    /// Ends the machine at once.
    func stop()
    /// Calls a function once, when the machine has ended, on any thread.
    func whenEnded(_ report: @escaping @Sendable (MachineOutcome) -> Void)
}

extension GroupMachine {
    /// Nothing, unless a machine says otherwise.
    public var persistence: (any GroupPersistence)? { nil }
    /// Nothing, unless a machine says otherwise.
    public var restoreTimes: GroupRestoreTimes? { nil }
}

/// The machine a group needs.
public struct GroupMachineSpecification: ~Copyable, Sendable {
    /// A disk of the group.
    public enum Disk: Sendable, Hashable {
        /// A file on the host, as it is.
        case file(path: String, readOnly: Bool)
        /// A copy-on-write volume that belongs to the checkpoints, by its map; it begins as a file (nil: the image's root disk).
        case volume(map: UInt16, importedFrom: String?, readOnly: Bool)
    }

    /// What the user asked for.
    public let configuration: GroupConfiguration
    /// The group's files.
    public let directory: GroupDirectory
    /// The store's file or device, for a group that needs one.
    public let storePath: String
    /// Where the store's index and other things shared by its users lie.
    public let storeRuntimePath: String
    /// The checkpoint to go on from; nil: the guest boots.
    public let origin: CheckpointAddress?
    /// The kernel's directory: `vmlinux` and `modules`.
    public let kernelPath: String
    /// The disks in order: vda, vdb, and so on.
    public let disks: [Disk]
    /// Where the machine listens for connections to the guest's vsock ports.
    public let vsockSocketPath: String
    /// The TAP device; nil for a group without network.
    public let tap: SharedDescriptor?
    /// Takes what the guest writes to its console.
    public let consoleLog: @Sendable (UnsafeRawBufferPointer) -> Void
    /// The host's side of the group as it is now, to be kept in each checkpoint; nil before the program runs.
    public let context: @Sendable () -> GroupContext?
    /// Takes what the user should know though the group runs on.
    public let warn: @Sendable (String) -> Void
    /// Takes what happened, for the group's events.
    public let tell: @Sendable (GroupEvent.Kind, String) -> Void
}
