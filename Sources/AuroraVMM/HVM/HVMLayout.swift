/// Where things lie in the guest-physical address space of an hvm guest, as on a PC: memory, a hole below 4 GiB for devices,
/// the rest of the memory above.
enum HVMLayout {
    /// Descriptor tables of the first instructions; the kernel soon brings its own.
    static let descriptorTable = GuestAddress(0x500)
    /// The `boot_params` of the Linux boot protocol.
    static let bootParameters = GuestAddress(0x7000)
    /// Three pages: the identity mapping of the first GiB.
    static let pageTables = GuestAddress(0x9000)
    /// The kernel's command line, zero-terminated.
    static let commandLine = GuestAddress(0x2_0000)
    /// The kernel's own limit (COMMAND_LINE_SIZE of x86), with the zero byte.
    static let commandLineBytesMax = 2048
    /// The end of the memory that a PC's firmware leaves to its system, below the old video memory.
    static let lowMemoryEnd: UInt64 = 0x9_fc00
    /// The ACPI tables, in the range where a PC's firmware lies.
    static let acpiTables = GuestAddress(0xe_0000)
    static let acpiTablesBytesMax = 0x1_f000
    /// The page in which the VMM announces a restore, the last of that range.
    static let generation = GuestAddress(0xf_f000)
    /// Memory that nothing else claims starts here.
    static let highMemoryStart: UInt64 = 1 << 20

    /// The hole for devices: no memory between these.
    static let holeStart: UInt64 = 3 << 30
    static let holeEnd: UInt64 = 4 << 30
    /// The first virtio-mmio window.
    static let deviceAddress = GuestAddress(0xd000_0000)
    /// Interrupt inputs of the IOAPIC for the devices, in order.
    ///
    /// Input 3 and below stay free for a PC's legacy devices.
    static let deviceInterrupts: [UInt32] = Array(16...23) + Array(5...15)
    /// The input that announces a restore.
    static let restoreInterrupt: UInt32 = 4
    static let ioapic: UInt32 = 0xfec0_0000
    static let localAPIC: UInt32 = 0xfee0_0000
    /// Three pages and one, which VT-x without "unrestricted guest" needs below 4 GiB; nobody else uses them.
    static let tssPages: UInt = 0xfffb_d000
    static let identityMapPage: UInt64 = 0xfffb_c000

    /// The registers of ACPI's "hardware-reduced" power control, each one byte wide.
    static let sleepControlPort: UInt16 = 0x600
    static let sleepStatusPort: UInt16 = 0x601
    static let resetPort: UInt16 = 0x602
    /// The value that resets at `resetPort`.
    static let resetValue: UInt8 = 1

    /// The ranges of guest memory for a size: below the hole, and above it what does not fit below.
    static func memoryRanges(memoryBytes: UInt64) -> [(start: UInt64, count: UInt64)] {
        guard memoryBytes > holeStart else { return [(0, memoryBytes)] }
        return [(0, holeStart), (holeEnd, memoryBytes - holeStart)]
    }
}
