import AgentClient
import AgentProtocol
import AuroraVMM
import CLinux
import Functions
import Groups
import Images
import Linux
import Snapshot
import Store

/// A machine of this process in which a runtime is booted, or a function made from a clone of it.
///
/// It is no group: nobody attaches to it, and all that is left of it is its checkpoint.
final class BuildMachine {
    /// A guest that boots answers within this.
    private static let bootSeconds = 60
    private static let connectRetryMicroseconds: UInt32 = 5_000
    /// The first, full checkpoint of a large function on a slow disk.
    private static let checkpointSeconds = 600.0

    private let machine: GroupMachineOfStore

    private init(_ machine: GroupMachineOfStore) { self.machine = machine }

    deinit { machine.stop() }

    /// Boots an image; its checkpoints go to a stream.
    static func boot(_ wanted: GroupConfiguration, stream: String, _ data: DataDirectory) throws -> BuildMachine {
        let kernel = try ImageCommand.kernels.current()
        var configuration = MachineConfiguration(memoryBytes: wanted.memoryBytes, kernelPath: kernel.vmlinuxPath)
        configuration.modulesDirectory = kernel.modulesPath
        configuration.isStrict = wanted.isolation == .strict
        let disks = try MachineDisks(
            [.volume(map: ImageImport.map, importedFrom: nil, readOnly: false)], imagePath: "\(data.imagePath(wanted.image))/root.ext4",
            directory: data.path)
        configuration.blockDevices = disks.configurations
        let environment = environment(wanted, stream, data)
        return try start(GroupMachineOfStore(try Machine(configuration), disks, environment, origin: nil))
    }

    /// Goes on from a checkpoint; its own checkpoints go to another stream, which shares the pages.
    static func clone(_ origin: CheckpointAddress, as wanted: GroupConfiguration, stream: String, _ data: DataDirectory) throws
        -> BuildMachine
    {
        let access = try StoreAccess.openOnce(wanted.storePath ?? data.storePath)
        let reader = try access.reader(origin)
        let envelope = try access.envelope(reader)
        let disks = try MachineDisks(
            [.volume(map: ImageImport.map, importedFrom: nil, readOnly: false)], at: reader, envelope.context, directory: data.path)
        var configuration = MachineConfiguration(memoryBytes: wanted.memoryBytes, kernelPath: "")
        configuration.blockDevices = disks.configurations
        configuration.tracksWrites = true
        let machine = try Machine(
            configuration, restoring: try MachineState(encoded: Array(envelope.machine)), pages: CheckpointPages(reader, map: 0))
        return try start(GroupMachineOfStore(machine, disks, environment(wanted, stream, data), origin: reader))
    }

    private static func environment(_ wanted: GroupConfiguration, _ stream: String, _ data: DataDirectory)
        -> GroupMachineOfStore.Environment
    {
        GroupMachineOfStore.Environment(
            configuration: wanted, streamName: stream, storePath: wanted.storePath ?? data.storePath,
            context: { GroupContext(configuration: wanted, session: 1, hasNetwork: false) }, warn: { EngineMessage.write($0) },
            tell: { _, _ in })
    }

    private static func start(_ machine: GroupMachineOfStore) throws -> BuildMachine {
        let made = BuildMachine(machine)
        try machine.start()
        return made
    }

    /// A greeted connection to the agent, once it answers.
    func agent() throws -> AgentClient {
        let deadline = clinux_monotonic_milliseconds() + Int64(BuildMachine.bootSeconds) * 1000
        while true {
            do {
                return try AgentClient(adopting: try connect(AgentLimits.vsockPort))
            } catch {
                if let end = machine.machine.end { throw FunctionBuildError.machine("the guest ended: \(end)") }
                guard clinux_monotonic_milliseconds() < deadline else {
                    throw FunctionBuildError.machine("its agent does not answer: \(error)")
                }
                usleep(BuildMachine.connectRetryMicroseconds)
            }
        }
    }

    /// The channel to the function's runtime.
    func function() throws -> FunctionChannel { try FunctionChannel(adopting: try connect(FunctionLimits.vsockPort)) }

    /// How long a guest may take to answer one.
    private static let connectSeconds = 10.0

    private func connect(_ port: UInt32) throws -> OwnedDescriptor {
        let machine = machine.machine
        let result = PromisedAnswer.of(withinSeconds: BuildMachine.connectSeconds) { () async -> Result<SharedDescriptor, VsockError> in
            do throws(VsockError) {
                return .success(SharedDescriptor(try await machine.connectVsock(port: port)))
            } catch { return .failure(error) }
        }
        guard let socket = try result?.get() else {
            throw FunctionBuildError.machine("its guest does not answer a connection within \(Int(BuildMachine.connectSeconds)) s")
        }
        let number = try systemCall("duplicate", "a connection") { clinux_fcntl(socket.rawValue, F_DUPFD_CLOEXEC, 0) }
        return OwnedDescriptor(adopting: Int32(number))
    }

    /// Writes what the machine is now to its stream, durable when it returns; the bytes that the store grew by.
    func checkpoint() throws -> Int {
        // A machine that booted has no backend yet; a clone has one since its first instruction.
        try machine.begin()
        _ = try machine.checkpoint(name: nil, within: BuildMachine.checkpointSeconds)
        return machine.report().storedBytes ?? 0
    }

    /// Ends the machine; its stream ends in good order.
    func stop() { machine.stop() }
}
