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

/// The machine a group needs.
public struct GroupMachineSpecification: ~Copyable, Sendable {
    /// A disk of the group.
    public struct Disk: Sendable, Hashable {
        /// The file on the host.
        public var path: String
        /// Whether writing is refused.
        public var readOnly: Bool
        /// Where writes go instead of the file; nil for the file itself.
        public var overlayPath: String?
    }

    /// Guest memory in bytes.
    public let memoryBytes: Int
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
}
