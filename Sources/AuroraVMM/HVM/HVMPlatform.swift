internal import CLinux
import Linux

/// A guest in hvm mode: the kernel runs in ring 0 on hardware virtualization, booted by Linux's 64-bit boot protocol.
///
/// `@unchecked Sendable`: set up by `boot` before the vCPU runs, then used only by the vCPU thread, or while it is parked.
final class HVMPlatform: Platform, @unchecked Sendable {
    let mode = GuestMode.hvm
    let deviceAddress = HVMLayout.deviceAddress
    let devicesMax = HVMLayout.deviceInterrupts.count
    /// ACPI describes the devices to the kernel's own driver; `aurora.ko` only waits for restores.
    let modulesUnused: Set<String> = []

    private let memoryBytes: Int
    private let console: ConsoleLog
    var serial = EarlySerialPort()

    /// What a port beyond the known ones does is not worth an end: a PC's kernel probes many.
    private enum KeyboardController {
        static let command: UInt16 = 0x64
        static let reset: UInt8 = 0xfe
        /// "Output full, input empty": a driver that probes gives up at once, and a reset does not wait.
        static let status: UInt8 = 1
    }
    private static let sleepEnable: UInt8 = 0x20
    private static let sleepTypeShift: UInt8 = 2
    private static let sleepTypeMask: UInt8 = 7
    private static let panicLines = 100
    private static let panicWords = "Kernel panic - not syncing"

    init(memoryBytes: Int, console: ConsoleLog) {
        self.memoryBytes = memoryBytes
        self.console = console
    }

    var memoryStarts: [GuestAddress] { HVMLayout.memoryRanges(memoryBytes: UInt64(memoryBytes)).map { GuestAddress($0.start) } }

    var memoryRegions: [GuestMemory.Region] {
        get throws(MachineError) {
            do throws(SystemError) {
                var regions: [GuestMemory.Region] = []
                for range in HVMLayout.memoryRanges(memoryBytes: UInt64(memoryBytes)) {
                    let mapping = try Mapping.anonymous(count: Int(range.count), what: "guest memory")
                    mapping.adviseHugePages()
                    regions.append(.init(start: GuestAddress(range.start), mapping: mapping))
                }
                return regions
            } catch {
                throw .system(error)
            }
        }
    }

    /// No PCI, an early console that the virtio console relieves, and a reset by ACPI: on hardware-reduced ACPI Linux would
    /// ask EFI, which is not there, and then a BIOS, whose place holds zeros that it executes for good.
    func kernelWords(_ windows: [GuestAddress]) -> [String] {
        let page = "0x" + String(HVMLayout.generation.rawValue, radix: 16)
        return [
            "pci=off", "reboot=acpi", "earlycon=uart8250,io,0x3f8", "aurora.generation=\(page):\(HVMLayout.restoreInterrupt)",
        ]
    }

    func interrupt(ofDevice index: Int) -> UInt32 { HVMLayout.deviceInterrupts[index] }

    func prepareProcessors(of machine: VirtualMachine) throws(MachineError) {
        try machine.placeSystemPages(taskState: HVMLayout.tssPages, identityMap: HVMLayout.identityMapPage)
    }

    /// KVM routes inputs 0 to 23 to its IOAPIC by itself.
    func routeInterrupts(of machine: VirtualMachine, devices: Int) throws(MachineError) {}

    func boot(_ boot: BootContents, memory: GuestMemory, cpu: VirtualCPU, cpuid: CPUIDTable) throws(MachineError) {
        let command = Array(boot.commandLine.utf8)
        guard command.count < HVMLayout.commandLineBytesMax else {
            throw .configuration("the kernel command line has \(command.count) bytes, at most \(HVMLayout.commandLineBytesMax - 1) fit")
        }
        let initramfs = try HVMPlatform.placeInitramfs(boot.initramfs.count, kernel: boot.kernel, memoryBytes: memoryBytes)
        let devices = boot.windows.enumerated().map {
            ACPITables.Device(window: UInt32(truncatingIfNeeded: $1.rawValue), interrupt: interrupt(ofDevice: $0))
        }
        let acpi = ACPITables(address: HVMLayout.acpiTables, devices: devices).bytes
        guard acpi.count <= HVMLayout.acpiTablesBytesMax else { throw .configuration("\(devices.count) devices are too many for ACPI") }
        let parameters = BootParameters(
            acpiRoot: HVMLayout.acpiTables, commandLine: (HVMLayout.commandLine, command.count),
            initramfs: (initramfs, boot.initramfs.count), memoryMap: BootParameters.memoryMap(memoryBytes: UInt64(memoryBytes)))
        try boot.kernel.load(into: memory)
        do throws(GuestMemoryError) {
            try memory.write(initramfs, boot.initramfs)
            try memory.write(HVMLayout.commandLine, command + [0])
            try memory.write(HVMLayout.acpiTables, acpi)
            try memory.write(HVMLayout.bootParameters, parameters.page)
            try memory.write(HVMLayout.descriptorTable, LongMode.descriptors.flatMap(HVMPlatform.bytes))
            try memory.write(HVMLayout.pageTables, LongMode.identityTables(at: HVMLayout.pageTables).flatMap(HVMPlatform.bytes))
        } catch {
            throw .configuration("\(memoryBytes >> 20) MiB of memory are too small to boot: \(error)")
        }
        try cpu.startInLongMode(entry: boot.kernel.entry, cpuid: ProcessorFeatures.table(from: cpuid))
    }

    private static func bytes(_ word: UInt64) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(littleEndian: word)
        return bytes
    }

    /// Below the kernel where it fits, so that a small guest needs no memory beyond the kernel's own, else after it.
    ///
    /// - Throws: `MachineError` when the kernel cannot start from where it wants to lie, or the memory is too small.
    static func placeInitramfs(_ count: Int, kernel: KernelImage, memoryBytes: Int) throws(MachineError) -> GuestAddress {
        let (start, end) = (kernel.start, kernel.end)
        guard start >= HVMLayout.highMemoryStart, kernel.entry >= start, kernel.entry < min(end, LongMode.identityEnd) else {
            throw .kernel("it starts at \(GuestAddress(kernel.entry)), outside of its memory or of the first GiB")
        }
        let below = min(UInt64(memoryBytes), HVMLayout.holeStart)
        let size = (UInt64(count) + UInt64(pageBytes) - 1) / UInt64(pageBytes) * UInt64(pageBytes)
        if size <= start - HVMLayout.highMemoryStart, start <= below { return GuestAddress(HVMLayout.highMemoryStart) }
        let after = (end + UInt64(pageBytes) - 1) / UInt64(pageBytes) * UInt64(pageBytes)
        guard after <= below, size <= below - after else {
            throw .configuration("\(memoryBytes >> 20) MiB of memory are too small for the kernel and \(count >> 10) KiB more")
        }
        return GuestAddress(after)
    }

    // MARK: - Exits

    func handlePort(_ cpu: VirtualCPU, memory: GuestMemory) -> ExitAction {
        guard let access = PortAccess(cpu) else { return .end(.failed("KVM describes a port access that is none")) }
        if access.isWrite { return write(access) }
        switch access.port {
        case EarlySerialPort.ports: access.answer(serial.read(access.port))
        case KeyboardController.command: access.answer(KeyboardController.status)
        case HVMLayout.sleepStatusPort: access.answer(0)
        default: access.answerNothing()
        }
        return .resume
    }

    private func write(_ access: PortAccess) -> ExitAction {
        for value in access.written {
            switch access.port {
            case EarlySerialPort.ports:
                if let byte = serial.write(access.port, value) { withUnsafeBytes(of: byte) { console.append($0) } }
            case HVMLayout.sleepControlPort:
                let type = value >> HVMPlatform.sleepTypeShift & HVMPlatform.sleepTypeMask
                if value & HVMPlatform.sleepEnable != 0, type == ACPITables.powerOffType { return .end(.powerOff) }
            case HVMLayout.resetPort where value == HVMLayout.resetValue: return .end(endOfReset)
            case KeyboardController.command where value == KeyboardController.reset: return .end(endOfReset)
            default: break
            }
        }
        return .resume
    }

    /// A panic resets as a reboot does (`panic=-1`); only what the kernel printed before tells them apart.
    private var endOfReset: MachineEnd {
        let lines = console.lastLines(HVMPlatform.panicLines)
        return lines.contains { $0.contains(HVMPlatform.panicWords) } ? .panic(consoleTail: console.panicLines) : .reboot
    }
}
