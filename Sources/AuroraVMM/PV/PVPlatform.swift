internal import CLinux
import Linux

/// A guest in pv mode: memory of the shim, first registers, and what the shim asks of the VMM.
///
/// `@unchecked Sendable`: set up by `boot` before the vCPU runs, then used only by the vCPU thread, or while it is parked.
final class PVPlatform: Platform, @unchecked Sendable {
    let mode = GuestMode.pv
    let deviceAddress = ShimLayout.deviceAddress
    let devicesMax = ShimLayout.devicesMax
    let modulesUnused: Set<String> = []

    private let image: ShimImage
    private let memoryBytes: Int
    private let isStrict: Bool
    private var slot: ShimSlot
    private var clock = GuestClock(tscKilohertz: 1, tsc: 0, systemTime: 0)
    private let console: ConsoleLog
    private var consoleRing: GuestAddress?
    private static let ringIn = 1024
    private static let ringOut: UInt32 = 2048
    private static let ringConsumed: UInt64 = 3072 + 8
    private static let ringProduced: UInt64 = 3072 + 12
    private static let consoleWriteBytesMax: UInt64 = 4096

    private enum MSR {
        static let star: UInt32 = 0xc000_0081
        static let lstar: UInt32 = 0xc000_0082
        static let systemCallMask: UInt32 = 0xc000_0084
        static let pvEOI: UInt32 = 0x4b56_4d04
    }

    /// - Throws: `MachineError` when the program has no shim or the host no memory.
    ///
    /// - Parameter isStrict: whether a guest that boots keeps its programs apart from its kernel; one that goes on does as it did.
    init(memoryBytes: Int, console: ConsoleLog, isStrict: Bool = false) throws(MachineError) {
        guard memoryBytes <= ShimLayout.memoryBytesMax else {
            throw .configuration("\(memoryBytes >> 30) GiB of memory are more than \(ShimLayout.memoryBytesMax >> 30) GiB")
        }
        image = try ShimImage()
        self.memoryBytes = memoryBytes
        self.isStrict = isStrict
        self.console = console
        do throws(SystemError) {
            slot = ShimSlot(
                image: image,
                region: .init(
                    start: ShimLayout.slotAddress,
                    mapping: try .anonymous(count: ShimLayout.slotBytes(memoryBytes: memoryBytes), what: "the memory of the PV shim")))
        } catch {
            throw .system(error)
        }
    }

    var memoryStarts: [GuestAddress] { [GuestAddress(0), slot.region.start] }

    var memoryRegions: [GuestMemory.Region] {
        get throws(MachineError) {
            do throws(SystemError) {
                let memory = try Mapping.anonymous(count: memoryBytes, what: "guest memory")
                memory.adviseHugePages()
                return [
                    .init(start: GuestAddress(0), mapping: memory),
                    slot.region,
                ]
            } catch {
                throw .system(error)
            }
        }
    }

    /// Plain stores instead of string instructions.
    ///
    /// A page that was a page table is still write-protected by KVM when the kernel clears it for its next use: a string
    /// store is then emulated byte by byte, while after a few plain ones KVM gives up the protection. Halves
    /// the time of a fork.
    private static let plainStores = "clearcpuid=erms,rep_good"

    /// The guest's TSC is the host's: it runs on while the guest is not there, and differs from host to host.
    ///
    /// Kept as a second clock source, the kernel would find it wrong after the first rollback, and say so; chosen as the first, it would
    /// make CLOCK_MONOTONIC jump.
    private static let noTSCClock = "tsc=unstable"

    func kernelWords(_ windows: [GuestAddress]) -> [String] {
        guard !windows.isEmpty else { return [PVPlatform.plainStores, PVPlatform.noTSCClock] }
        let page = "0x" + String(ShimSlot.physical(ShimLayout.generation), radix: 16)
        let list = windows.enumerated().map { "\($1):\(ShimLayout.devicePort + UInt64($0))" }
        return [
            PVPlatform.plainStores, PVPlatform.noTSCClock, "aurora.devices=" + list.joined(separator: ","),
            "aurora.generation=\(page):\(ShimLayout.restorePort)",
        ]
    }

    func interrupt(ofDevice index: Int) -> UInt32 { UInt32(index) }

    func prepareProcessors(of machine: VirtualMachine) throws(MachineError) {}

    /// Each device's interrupt is a vector of the local APIC: the guest has no IOAPIC.
    func routeInterrupts(of machine: VirtualMachine, devices: Int) throws(MachineError) {
        try machine.routeInterrupts((0..<UInt32(devices)).map { (gsi: $0, vector: ShimLayout.eventVectorBase + 1 + $0) })
    }

    func boot(_ boot: BootContents, memory: GuestMemory, cpu: VirtualCPU, cpuid: CPUIDTable) throws(MachineError) {
        var builder = try DomainBuilder(memory: memory, memoryBytes: memoryBytes, kernel: boot.kernel)
        let domain = try builder.build(
            initramfs: boot.initramfs, commandLine: boot.commandLine,
            sharedInfo: GuestAddress(ShimSlot.physical(ShimLayout.sharedInfo)), slots: ShimSlot.topEntries)
        let readsInactiveBase = try KernelPatch.apply(to: boot.kernel, in: memory, shim: image)
        consoleRing = domain.consoleRing
        let frequency = try cpu.tscKilohertz()
        slot.build(memoryBytes: memoryBytes, tscKilohertz: frequency, pageTable: domain.pageTable, isStrict: isStrict)
        if readsInactiveBase { slot.store(ShimLayout.flagInactiveBase, at: slot.parameter(ShimLayout.paramFlags)) }
        setClock(GuestClock(tscKilohertz: frequency, tsc: clinux_rdtsc(), systemTime: 0), memory: memory)
        try setRegisters(domain, cpu: cpu, cpuid: cpuid)
    }

    /// Writes the clock page wherever the guest reads it, and the wall clock that belongs to it.
    func setClock(_ clock: GuestClock, memory: GuestMemory) {
        self.clock = clock
        // A guest that was stopped between two reads of the page must not go on with half of the old one.
        let former: UInt32 = slot.load(slot.parameter(ShimLayout.paramTime))
        let page = clock.page(version: (former & ~1) &+ 2)
        for (index, byte) in page.enumerated() {
            slot.store(byte, at: slot.parameter(ShimLayout.paramTime) + index)
            slot.store(byte, at: ShimLayout.sharedInfo + ShimLayout.vcpuTime + index)
        }
        let vcpuInfo: UInt64 = slot.load(slot.parameter(ShimLayout.paramVCPUInfoAddress))
        let timeArea: UInt64 = slot.load(slot.parameter(ShimLayout.paramTimeAreaAddress))
        if vcpuInfo != 0, let address = GuestAddress(vcpuInfo).advanced(by: UInt64(ShimLayout.vcpuTime)) {
            try? memory.write(address, page)
        }
        if timeArea != 0 { try? memory.write(GuestAddress(timeArea), page) }
        let wallClock = UInt64(clinux_clock_ns(CLOCK_REALTIME)) &- clock.nanoseconds(at: clinux_rdtsc())
        slot.store(UInt32(2), at: ShimLayout.sharedInfo + ShimLayout.sharedWallClock)
        slot.store(UInt32(truncatingIfNeeded: wallClock / 1_000_000_000), at: ShimLayout.sharedInfo + ShimLayout.sharedWallClock + 4)
        slot.store(UInt32(wallClock % 1_000_000_000), at: ShimLayout.sharedInfo + ShimLayout.sharedWallClock + 8)
    }

    // MARK: - State

    func adopt(_ regions: [GuestMemory.Region]) throws(MachineError) {
        guard let region = regions.first(where: { $0.start == ShimLayout.slotAddress }) else {
            throw .state("it has no memory for the PV shim")
        }
        slot = ShimSlot(image: image, region: region)
    }

    func save(_ machine: VirtualMachine) throws(MachineError) -> PlatformState {
        .pv(
            PVState(
                guestTime: clock.nanoseconds(at: clinux_rdtsc()), savedAt: clinux_clock_ns(CLOCK_REALTIME),
                consoleRing: consoleRing ?? GuestAddress(0), shimCPU: slot.cpuOffset, shimParameters: slot.parametersOffset,
                shimVersion: ShimLayout.version))
    }

    /// The shim runs on in the guest's memory, as it was saved; this program's own shim may be a newer one.
    func load(_ state: PlatformState, machine: VirtualMachine, memory: GuestMemory, cpu: VirtualCPU) throws(MachineError) {
        guard case .pv(let state) = state else { throw .state("it is not the state of a pv guest") }
        guard state.shimVersion == ShimLayout.version else {
            throw .state("its PV shim has version \(state.shimVersion), this program works with \(ShimLayout.version)")
        }
        let places = 0...(ShimLayout.imageBytesMax - pageBytes)
        guard places.contains(state.shimCPU), places.contains(state.shimParameters) else {
            throw .state("its PV shim lies outside of its memory")
        }
        try reachSlot(memory, [state.shimCPU, state.shimParameters, ShimLayout.sharedInfo])
        slot.cpuOffset = state.shimCPU
        slot.parametersOffset = state.shimParameters
        consoleRing = state.consoleRing
        // This host's KVM may treat interrupts in another way than the last one's: the shim finds out anew.
        slot.store(ShimLayout.eoiProbes, at: slot.cpu(ShimLayout.cpuEOIProbes))
        let frequency = try cpu.tscKilohertz()
        slot.store(frequency, at: slot.parameter(ShimLayout.paramTSCKilohertz))
        setClock(GuestClock(tscKilohertz: frequency, tsc: clinux_rdtsc(), systemTime: state.guestTime), memory: memory)
        // Has the guest set its clocks and take new random numbers before it executes anything else: the interrupt is pending when
        // the vCPU enters the guest.
        try RestoreAnnouncement.write(to: GuestAddress(ShimSlot.physical(ShimLayout.generation)), in: memory, savedAt: state.savedAt)
        try machine.signal(vector: ShimLayout.restoreVector)
    }

    /// Fetches the pages of the slot that are written here, if they are not there yet: an error is an error then, and no thread waits.
    private func reachSlot(_ memory: GuestMemory, _ offsets: [Int]) throws(MachineError) {
        for offset in offsets {
            let address = GuestAddress(ShimSlot.physical(offset))
            do throws(GuestMemoryError) { _ = try memory.reach(address, pageBytes) } catch { throw .state("\(error)") }
        }
    }

    // MARK: - Exits

    func handlePort(_ cpu: VirtualCPU, memory: GuestMemory) -> ExitAction {
        let port = cpu.run.pointee.io.port
        guard port == ShimLayout.exitPort else { return .end(.failed("The guest used port 0x\(String(port, radix: 16))")) }
        let reason: UInt64 = slot.load(slot.parameter(ShimLayout.paramExitReason))
        func argument(_ index: Int) -> UInt64 { slot.load(slot.parameter(ShimLayout.paramExitArguments) + index * 8) }
        switch ShimExit(rawValue: reason) {
        case .consoleRing: drainConsoleRing(memory)
        case .consoleWrite:
            let count = Int(min(argument(1), PVPlatform.consoleWriteBytesMax))
            if let bytes = try? memory.bytes(GuestAddress(argument(0)), count: count) { bytes.withUnsafeBytes { console.append($0) } }
        case .shutdown:
            // What the kernel printed last may not have been announced.
            drainConsoleRing(memory)
            return .end(end(ofShutdown: argument(0)))
        case .unknownHypercall: note("hypercall \(argument(0)) is not served")
        case .panic:
            let place = [argument(0), argument(1), argument(2)].map { "0x" + String($0, radix: 16) }.joined(separator: " ")
            return .end(.failed("The PV shim stopped at \(place)\n" + console.lastLines(20).joined(separator: "\n")))
        case nil: return .end(.failed("The PV shim left for reason \(reason)"))
        }
        return .resume
    }

    private func note(_ text: String) { Array("aurora: \(text)\n".utf8).withUnsafeBytes { console.append($0) } }

    /// SHUTDOWN_* of xen/interface/sched.h.
    private func end(ofShutdown reason: UInt64) -> MachineEnd {
        switch reason {
        case 0: .powerOff
        case 1: .reboot
        case 3: .panic(consoleTail: console.panicLines)
        default: .failed("The guest shut down for reason \(reason)")
        }
    }

    /// The console's shared ring (xen/interface/io/console.h): 2048 bytes out, indexes that only grow.
    private func drainConsoleRing(_ memory: GuestMemory) {
        // The ring's place comes from a checkpoint: it may be anywhere.
        guard let ring = consoleRing, let base = ring.advanced(by: UInt64(PVPlatform.ringIn)),
            let consumedAt = ring.advanced(by: PVPlatform.ringConsumed), let producedAt = ring.advanced(by: PVPlatform.ringProduced),
            let consumed: UInt32 = try? memory.load(consumedAt), let produced: UInt32 = try? memory.load(producedAt)
        else { return }
        let count = min(produced &- consumed, PVPlatform.ringOut)
        var bytes: [UInt8] = []
        bytes.reserveCapacity(Int(count))
        for index in 0..<count {
            let offset = UInt64((consumed &+ index) % PVPlatform.ringOut)
            if let place = base.advanced(by: offset), let byte: UInt8 = try? memory.load(place) { bytes.append(byte) }
        }
        try? memory.store(produced, at: consumedAt)
        bytes.withUnsafeBytes { console.append($0) }
    }

    // MARK: - Registers

    private func setRegisters(_ domain: DomainBuilder.Domain, cpu: VirtualCPU, cpuid: CPUIDTable) throws(MachineError) {
        var cpuid = cpuid
        // KVM hides these two although both work natively here; without them user space, which sees the host's CPUID,
        // would use registers that nobody saves.
        cpuid.update(1, register: 2, set: 1 << 26)  // XSAVE
        cpuid.update(7, register: 1, set: 1 << 0)  // FSGSBASE
        try cpu.setCPUID(cpuid)
        var system = try cpu.get(CKVM_GET_SREGS, kvm_sregs(), "system registers")
        system.cr0 = 0x8005_0033
        system.cr3 = domain.pageTable
        system.cr4 = 0x5_0620  // OSXSAVE, FSGSBASE, OSXMMEXCPT, OSFXSR, PAE
        system.efer = 0xd01
        system.apic_base = ShimLayout.apicAddress.rawValue | 0x900
        system.cs = PVPlatform.segment(selector: 0x33, type: 11, long: true)
        let data = PVPlatform.segment(selector: 0x2b, type: 3, long: false)
        (system.ds, system.es, system.fs, system.gs, system.ss) = (data, data, data, data, data)
        system.gdt.base = image.gdt
        system.gdt.limit = 0x7f
        system.idt.base = isStrict ? ShimLayout.gateIDT : image.idt
        system.idt.limit = 0xfff
        system.tr = kvm_segment()
        system.tr.base = image.tss
        system.tr.limit = 0x67
        system.tr.selector = 0x40
        system.tr.type = 11
        system.tr.present = 1
        // At reset it is a table at address 0, where a program's load of a segment would be looked up.
        system.ldt = kvm_segment()
        system.ldt.unusable = 1
        try cpu.set(CKVM_SET_SREGS, system, "system registers")
        try setFloatingPoint(cpu)
        try setLocalAPIC(cpu)
        cpu.writeMSR(MSR.star, 0x23 << 48 | 8 << 32)
        cpu.writeMSR(MSR.lstar, isStrict ? ShimLayout.gate : image.systemCallEntry)
        cpu.writeMSR(MSR.systemCallMask, 0x4_7500)  // AC, NT, IOPL, DF, TF
        cpu.writeMSR(MSR.pvEOI, ShimSlot.physical(slot.cpu(ShimLayout.cpuPVEOI)) | 1)
        var registers = kvm_regs()
        registers.rip = domain.entry
        registers.rsp = domain.stack
        registers.rsi = domain.startInfo
        registers.rflags = 0x202
        try cpu.set(CKVM_SET_REGS, registers, "registers")
    }

    private func setFloatingPoint(_ cpu: VirtualCPU) throws(MachineError) {
        var control = kvm_xcrs()
        control.nr_xcrs = 1
        control.xcrs.0.value = 0xe7 & clinux_extended_control()  // x87, SSE, AVX, AVX-512, as far as the processor has them
        try cpu.set(CKVM_SET_XCRS, control, "extended control registers")
    }

    /// Enables the local APIC, with its timer on the first event vector, one-shot, counting nanoseconds.
    private func setLocalAPIC(_ cpu: VirtualCPU) throws(MachineError) {
        var apic = try cpu.get(CKVM_GET_LAPIC, kvm_lapic_state(), "the local APIC")
        withUnsafeMutableBytes(of: &apic) { registers in
            registers.storeBytes(of: UInt32(0x1ff), toByteOffset: 0xf0, as: UInt32.self)  // spurious vector, enabled
            registers.storeBytes(of: UInt32(0), toByteOffset: 0x80, as: UInt32.self)  // task priority
            registers.storeBytes(of: ShimLayout.eventVectorBase, toByteOffset: 0x320, as: UInt32.self)  // timer
            registers.storeBytes(of: UInt32(0xb), toByteOffset: 0x3e0, as: UInt32.self)  // divide by one
        }
        try cpu.set(CKVM_SET_LAPIC, apic, "the local APIC")
    }

    static func segment(selector: UInt16, type: UInt8, long: Bool) -> kvm_segment {
        var segment = kvm_segment()
        segment.limit = 0xffff_ffff
        segment.selector = selector
        segment.type = type
        segment.present = 1
        segment.dpl = 3
        segment.s = 1
        segment.l = long ? 1 : 0
        segment.db = long ? 0 : 1
        segment.g = 1
        return segment
    }
}
