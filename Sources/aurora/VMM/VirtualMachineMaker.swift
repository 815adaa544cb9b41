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

    /// Makes a machine that boots, or goes on from what was opened; nothing of it runs yet.
    @Sendable static func make(
        _ specification: consuming GroupMachineSpecification, _ opening: CheckpointOpening?
    ) throws -> any GroupMachine {
        var configuration = MachineConfiguration(
            memoryBytes: specification.configuration.memoryBytes, kernelPath: "\(specification.kernelPath)/vmlinux")
        configuration.modulesDirectory = "\(specification.kernelPath)/modules"
        if let tap = specification.tap {
            let number = try systemCall("duplicate", "the TAP descriptor") { clinux_fcntl(tap.rawValue, F_DUPFD_CLOEXEC, 0) }
            configuration.network = NetworkDeviceConfiguration(tapDescriptor: Int32(number), macAddress: macAddress)
        }
        configuration.isStrict = specification.configuration.isolation == .strict
        configuration.vsockSocketPath = specification.vsockSocketPath
        configuration.consoleLog = specification.consoleLog
        let environment = GroupMachineOfStore.Environment(
            configuration: specification.configuration, streamName: specification.directory.streamName,
            storePath: specification.storePath, context: specification.context, warn: specification.warn,
            tell: specification.tell)
        guard let opening else {
            let imagePath = "\(CommandContext.data.imagePath(specification.configuration.image))/root.ext4"
            let disks = try MachineDisks(specification.disks, imagePath: imagePath, directory: specification.directory.path)
            configuration.blockDevices = disks.configurations
            return GroupMachineOfStore(try Machine(configuration), disks, environment, origin: nil)
        }
        let opened = try opening.value()
        var watch = opened.watch
        watch.goesOn()
        let disks = try MachineDisks(specification.disks, at: opened.reader, opened.context, directory: specification.directory.path)
        watch.madeDisks()
        configuration.blockDevices = disks.configurations
        configuration.tracksWrites = true
        let machine = try Machine(configuration, restoring: opened.state, into: opened.memory)
        watch.madeMachine(machine.restoreTimes)
        return GroupMachineOfStore(machine, disks, environment, origin: opened.reader, watch, opened.workingSet)
    }
}
