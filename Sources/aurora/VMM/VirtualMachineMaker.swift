import AuroraVMM
import CLinux
import Groups
import Linux

/// Makes the machine of a group: the only place where groups and machines meet.
enum VirtualMachineMaker {
    /// The hardware address of every group's network device; each is alone with its host in a namespace.
    private static let macAddress: [UInt8] = [0x02, 0xA5, 0x00, 0x00, 0x00, 0x02]

    /// Makes a machine; nothing of it runs yet.
    @Sendable static func make(_ specification: consuming GroupMachineSpecification) throws -> any GroupMachine {
        var configuration = MachineConfiguration(
            memoryBytes: specification.configuration.memoryBytes, kernelPath: "\(specification.kernelPath)/vmlinux")
        configuration.modulesDirectory = "\(specification.kernelPath)/modules"
        let imagePath = "\(CommandContext.data.imagePath(specification.configuration.image))/root.ext4"
        configuration.blockDevices = specification.disks.map { disk in
            switch disk {
            case .file(let path, let readOnly): BlockDeviceConfiguration(path: path, isReadOnly: readOnly)
            case .volume(_, let file, let scratch, _): BlockDeviceConfiguration(path: file ?? imagePath, overlayPath: scratch)
            }
        }
        if let tap = specification.tap {
            let number = try systemCall("duplicate", "the TAP descriptor") { clinux_fcntl(tap.rawValue, F_DUPFD_CLOEXEC, 0) }
            configuration.network = NetworkDeviceConfiguration(tapDescriptor: Int32(number), macAddress: macAddress)
        }
        configuration.vsockSocketPath = specification.vsockSocketPath
        configuration.consoleLog = specification.consoleLog
        return VirtualMachineOfGroup(try Machine(configuration))
    }
}

/// A machine as a group's runtime sees it.
private struct VirtualMachineOfGroup: GroupMachine {
    let machine: Machine

    init(_ machine: Machine) { self.machine = machine }

    var modeName: String { machine.mode.rawValue }
    var consoleTail: String { machine.console.tail }
    func start() { machine.resume() }
    func pause() { machine.pause() }
    func resume() { machine.resume() }
    func stop() { machine.stop() }

    func whenEnded(_ report: @escaping @Sendable (MachineOutcome) -> Void) {
        let machine = machine
        Task.detached { report(VirtualMachineOfGroup.outcome(await machine.waitUntilEnded())) }
    }

    private static func outcome(_ end: MachineEnd) -> MachineOutcome {
        switch end {
        case .powerOff: .powerOff
        case .reboot: .reboot
        case .panic(let tail): .panic(VirtualMachineOfGroup.reason(in: tail))
        case .tripleFault: .failed("triple fault")
        case .failed(let reason): .failed(reason)
        case .stopped: .stopped
        }
    }

    /// The line of a panic that says why.
    private static func reason(in lines: [String]) -> String {
        let line = lines.last { $0.contains("Kernel panic") } ?? lines.last ?? "no reason given"
        return line.firstRange(of: "Kernel panic").map { String(line[$0.lowerBound...]) } ?? line
    }
}
