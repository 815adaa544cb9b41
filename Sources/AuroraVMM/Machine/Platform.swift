/// What a boot puts into a machine.
struct BootContents {
    let kernel: KernelImage
    let initramfs: [UInt8]
    let commandLine: String
    /// Where the devices' windows lie.
    let windows: [GuestAddress]
}

/// What differs between the guest modes; everything above the CPU is the same.
protocol Platform: AnyObject {
    var mode: GuestMode { get }
    /// Where the slots of the guest's memory begin.
    var memoryStarts: [GuestAddress] { get }
    /// New memory for the guest, in slots.
    var memoryRegions: [GuestMemory.Region] { get throws(MachineError) }
    /// Where the first virtio-mmio window lies; each takes a page.
    var deviceAddress: GuestAddress { get }
    /// How many devices a machine of this mode can have.
    var devicesMax: Int { get }
    /// Kernel modules that a guest of this mode has no use for.
    var modulesUnused: Set<String> { get }
    /// The words of the command line that this mode needs, those that tell the guest its devices among them.
    func kernelWords(_ windows: [GuestAddress]) -> [String]
    /// KVM's number of device `index`'s interrupt.
    func interrupt(ofDevice index: Int) -> UInt32
    /// Prepares a machine for its first vCPU.
    func prepareProcessors(of machine: VirtualMachine) throws(MachineError)
    /// Leads the interrupts of this many devices to vCPU 0.
    func routeInterrupts(of machine: VirtualMachine, devices: Int) throws(MachineError)
    /// Fills memory and registers for a boot.
    func boot(_ boot: BootContents, memory: GuestMemory, cpu: VirtualCPU, cpuid: CPUIDTable) throws(MachineError)
    /// Uses these regions instead of the ones of `memoryRegions`, whose places and sizes they have.
    ///
    /// - Throws: `MachineError.state` for contents that cannot be this platform's.
    func adopt(_ regions: [GuestMemory.Region]) throws(MachineError)
    /// What a checkpoint must hold beyond memory, vCPU and interrupt controllers. The vCPU is parked.
    func save(_ machine: VirtualMachine) throws(MachineError) -> PlatformState
    /// Takes a saved state, as hostile as a guest, after memory and vCPU.
    ///
    /// - Throws: `MachineError.state`.
    func load(_ state: PlatformState, machine: VirtualMachine, memory: GuestMemory, cpu: VirtualCPU) throws(MachineError)
    /// Serves the port access that the vCPU left the guest for.
    func handlePort(_ cpu: VirtualCPU, memory: GuestMemory) -> ExitAction
}
