internal import CLinux
import Linux

/// All virtio devices of a machine: their windows in guest-physical memory, doorbells, interrupts and event loops.
///
/// Register pages lie side by side in one read-only memory slot, so that a guest reads a register without leaving; its
/// writes trap, except the doorbell and the usual interrupt acknowledgement, which are eventfds.
final class DeviceBoard: @unchecked Sendable {
    // Safety: everything is set in `init`; devices and loops are safe for any thread.
    private static let queueNotify: UInt64 = 0x50
    private static let interruptAcknowledge: UInt64 = 0x64

    struct Slot {
        let window: any MMIOWindow
        let address: GuestAddress
        let line: EventInterruptLine
        let interrupt: UInt32
        let isDisk: Bool
    }

    private(set) var slots: [Slot] = []
    private(set) var vsock: MMIOTransport<VsockDevice>?
    private(set) var balloon: MMIOTransport<BalloonDevice>?
    private let pages: Mapping
    private let base: GuestAddress
    private let loop: EventLoop
    private let diskLoop: EventLoop
    private let acknowledgements: EventDescriptor

    /// Makes the devices of a configuration.
    ///
    /// - Throws: `MachineError` for a disk or socket that cannot be opened.
    init(_ configuration: MachineConfiguration, memory: GuestMemory, platform: any Platform, console: ConsoleLog) throws(MachineError) {
        base = platform.deviceAddress
        do throws(SystemError) {
            pages = try .anonymous(count: platform.devicesMax * pageBytes, what: "device registers")
            loop = try EventLoop(name: "devices")
            diskLoop = try EventLoop(name: "disks")
            // A machine is made at rest.
            for loop in [loop, diskLoop] { loop.quiesce() }
            acknowledgements = try EventDescriptor()
        } catch {
            throw .system(error)
        }
        for disk in configuration.blockDevices { try addDisk(disk, memory, platform) }
        do throws(SystemError) {
            vsock = try add(VsockDevice(guestContext: MachineConfiguration.vsockCID, path: configuration.vsockSocketPath), memory, platform)
            if let network = configuration.network { try addNetwork(network, memory, platform) }
            try add(EntropyDevice(), memory, platform)
            balloon = try add(BalloonDevice(), memory, platform)
            try add(ConsoleDevice(log: console), memory, platform)
        } catch {
            throw .system(error)
        }
        guard slots.count <= platform.devicesMax else {
            throw .configuration("\(slots.count) devices are more than the \(platform.devicesMax) a machine can have; use fewer volumes")
        }
    }

    private func addDisk(_ disk: BlockDeviceConfiguration, _ memory: GuestMemory, _ platform: any Platform) throws(MachineError) {
        let backend: any BlockBackend
        do throws(DiskError) {
            if let reference = disk.backend {
                backend = reference.backend
            } else if let overlay = disk.overlayPath {
                backend = try CopyOnWriteFileBackend(basePath: disk.path, overlayPath: overlay)
            } else {
                backend = try RawFileBackend(path: disk.path, isReadOnly: disk.isReadOnly)
            }
        } catch { throw .configuration("\(error)") }
        do throws(SystemError) {
            try add(BlockDevice(backend: backend, serial: "aurora-\(slots.count)"), memory, platform, isDisk: true)
        } catch { throw .system(error) }
    }

    private func addNetwork(
        _ network: NetworkDeviceConfiguration, _ memory: GuestMemory, _ platform: any Platform
    ) throws(SystemError) {
        guard network.tapDescriptor >= 0 else {
            try add(NetworkDevice(frames: UnpluggedLink(), macAddress: network.macAddress), memory, platform)
            return
        }
        let tap = try TapInterface(adopting: OwnedDescriptor(adopting: network.tapDescriptor), name: "of the guest")
        try add(NetworkDevice(frames: tap, macAddress: network.macAddress), memory, platform)
    }

    @discardableResult
    private func add<Device: VirtioDevice>(
        _ device: Device, _ memory: GuestMemory, _ platform: any Platform, isDisk: Bool = false
    ) throws(SystemError) -> MMIOTransport<Device> {
        let index = slots.count
        guard index < platform.devicesMax else { throw SystemError("add", "device \(index)", errno: .noSpace) }
        let line = EventInterruptLine(event: try EventDescriptor())
        let transport = try MMIOTransport(device, memory: memory, interrupt: line, page: RegisterPage(pages, page: index))
        slots.append(
            Slot(
                window: transport, address: GuestAddress(base.rawValue + UInt64(index * pageBytes)), line: line,
                interrupt: platform.interrupt(ofDevice: index), isDisk: isDisk))
        return transport
    }

    /// Where the devices' windows lie.
    var addresses: [GuestAddress] { slots.map(\.address) }

    /// Shows the register pages to the guest.
    ///
    /// - Throws: `MachineError.system`.
    func placeRegisters(in machine: VirtualMachine, slot: UInt32) throws(MachineError) {
        guard !slots.isEmpty else { return }
        try machine.setMemory(
            slot: slot, at: base, host: pages.base, count: slots.count * pageBytes, flags: UInt32(KVM_MEM_READONLY))
    }

    /// Connects doorbells and interrupts; the devices serve from now on.
    ///
    /// - Throws: `MachineError.system`.
    func connect(to machine: VirtualMachine) throws(MachineError) {
        for slot in slots {
            try machine.connect(slot.line.event, toInterrupt: slot.interrupt)
            for (queue, notifier) in slot.window.queueNotifiers.enumerated() {
                try machine.connect(
                    notifier, toWriteAt: GuestAddress(slot.address.rawValue + DeviceBoard.queueNotify), match: UInt64(queue))
            }
            // Nobody reads this one: "used buffer" stays set for good, so its acknowledgement changes nothing.
            try machine.connect(
                acknowledgements, toWriteAt: GuestAddress(slot.address.rawValue + DeviceBoard.interruptAcknowledge), match: 1)
            do throws(SystemError) { try slot.window.attach(to: slot.isDisk ? diskLoop : loop) } catch { throw .system(error) }
        }
    }

    // MARK: - Exits

    func read(_ address: GuestAddress, size: Int) -> UInt64 {
        guard let (window, offset) = locate(address) else { return .max }
        return window.read(offset: offset, size: size)
    }

    func write(_ address: GuestAddress, size: Int, value: UInt64) {
        guard let (window, offset) = locate(address) else { return }
        window.write(offset: offset, size: size, value: value)
    }

    private func locate(_ address: GuestAddress) -> (any MMIOWindow, Int)? {
        guard address >= base else { return nil }
        let offset = address.rawValue - base.rawValue
        guard offset < UInt64(slots.count * pageBytes) else { return nil }
        return (slots[Int(offset) / pageBytes].window, Int(offset) % pageBytes)
    }

    // MARK: - Rest and end. `MachineRest` calls these, one at a time.

    /// Returns when no handler runs, and keeps them from running until `resume()`.
    ///
    /// Disks first: their handlers take longest, and network and agent go on meanwhile.
    /// - Throws: `MachineError.guest` when a handler ran for all of `seconds`; nothing is kept from running then.
    func quiesce(seconds: Int) throws(MachineError) {
        guard diskLoop.quiesce(seconds: seconds) else { throw DeviceBoard.late("a disk", seconds) }
        guard loop.quiesce(seconds: seconds) else {
            diskLoop.resume()
            throw DeviceBoard.late("a device", seconds)
        }
    }

    private static func late(_ what: String, _ seconds: Int) -> MachineError {
        .guest("a request of \(what) has not come to an end for \(seconds) s")
    }

    func resume() {
        diskLoop.resume()
        loop.resume()
    }

    /// Ends the service.
    ///
    /// - Returns: the names of the threads whose handler ran for all of `seconds`; their devices are left alone.
    func stop(seconds: Int) -> [String] {
        var stuck: [String] = []
        for (name, loop, servesDisks) in [("disks", diskLoop, true), ("devices", loop, false)] {
            guard loop.stop(seconds: seconds) else {
                stuck.append(name)
                continue
            }
            for slot in slots where slot.isDisk == servesDisks { slot.window.detach() }
        }
        return stuck
    }
}
