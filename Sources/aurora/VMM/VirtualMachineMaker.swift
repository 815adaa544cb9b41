import AuroraVMM
import CLinux
import Groups
import Images
import Linux
import Snapshot
import Store

/// Makes the machine of a group: the only place where groups, machines and stores meet.
enum VirtualMachineMaker {
    /// The hardware address of every group's network device; each is alone with its host in a namespace.
    private static let macAddress: [UInt8] = [0x02, 0xA5, 0x00, 0x00, 0x00, 0x02]

    /// Makes a machine; nothing of it runs yet.
    @Sendable static func make(_ specification: consuming GroupMachineSpecification) throws -> any GroupMachine {
        var configuration = MachineConfiguration(
            memoryBytes: specification.configuration.memoryBytes, kernelPath: "\(specification.kernelPath)/vmlinux")
        configuration.modulesDirectory = "\(specification.kernelPath)/modules"
        if let tap = specification.tap {
            let number = try systemCall("duplicate", "the TAP descriptor") { clinux_fcntl(tap.rawValue, F_DUPFD_CLOEXEC, 0) }
            configuration.network = NetworkDeviceConfiguration(tapDescriptor: Int32(number), macAddress: macAddress)
        }
        configuration.vsockSocketPath = specification.vsockSocketPath
        configuration.consoleLog = specification.consoleLog
        let environment = GroupMachineOfStore.Environment(
            configuration: specification.configuration, streamName: specification.directory.streamName,
            storePath: specification.storePath, context: specification.context, warn: specification.warn)
        guard let origin = specification.origin else {
            let imagePath = "\(CommandContext.data.imagePath(specification.configuration.image))/root.ext4"
            let disks = try MachineDisks(specification.disks, imagePath: imagePath, directory: specification.directory.path)
            configuration.blockDevices = disks.configurations
            return GroupMachineOfStore(try Machine(configuration), disks, environment, origin: nil)
        }
        var watch = RestoreWatch()
        let access = try StoreAccess.openOnce(specification.storePath)
        let reader = try access.reader(origin)
        let envelope = try access.envelope(reader)
        let state = try MachineState(encoded: Array(envelope.machine))
        watch.foundState()
        let disks = try MachineDisks(specification.disks, at: reader, envelope.context, directory: specification.directory.path)
        watch.madeDisks()
        configuration.blockDevices = disks.configurations
        configuration.tracksWrites = true
        let machine = try Machine(configuration, restoring: state, pages: CheckpointPages(reader, map: 0))
        watch.madeMachine(machine.restoreTimes)
        return GroupMachineOfStore(machine, disks, environment, origin: reader, watch)
    }

    /// What was kept of the host's side in a checkpoint.
    @Sendable static func context(_ address: CheckpointAddress, storePath: String) throws -> GroupContext {
        try StoreAccess.openOnce(storePath).context(address)
    }
}
