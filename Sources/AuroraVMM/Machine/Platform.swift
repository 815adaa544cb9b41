/// What a boot puts into a machine.
struct BootContents {
    let kernel: KernelImage
    let initramfs: [UInt8]
    let commandLine: String
}

/// What differs between the guest modes; everything above the CPU is the same.
protocol Platform: AnyObject {
    var mode: GuestMode { get }
    /// The guest's memory, in slots.
    var memoryRegions: [GuestMemory.Region] { get throws(MachineError) }
    /// Where the first virtio-mmio window lies; each takes a page.
    var deviceAddress: GuestAddress { get }
    /// How many devices a machine of this mode can have.
    var devicesMax: Int { get }
    /// The words of the command line that tell the guest its devices.
    func deviceWord(_ windows: [GuestAddress]) -> [String]
    /// The vector of device `index` on vCPU 0.
    func interruptVector(ofDevice index: Int) -> UInt32
    /// Fills memory and registers for a boot.
    func boot(_ boot: BootContents, memory: GuestMemory, cpu: VirtualCPU, cpuid: CPUIDTable) throws(MachineError)
    /// Serves a port access of the guest.
    func handlePort(_ port: UInt16, memory: GuestMemory) -> ExitAction
}
