/// Where the PV shim and what belongs to it lie; the same numbers as `Sources/PVShim/layout.h`.
enum ShimLayout {
    /// Guest-physical address of the shim's memory slot: above any memory size offered.
    static let slotAddress = GuestAddress(1 << 39)
    /// Guest-physical address of the local APIC, which must not lie inside RAM.
    static let apicAddress = GuestAddress(1 << 39 | 1 << 36)
    /// Guest-physical address of the first virtio-mmio window.
    static let deviceAddress = GuestAddress(1 << 39 | 1 << 37)

    /// Virtual address of the shim (L4 slot 262).
    static let virtualBase: UInt64 = 0xffff_8300_0000_0000
    static let sharedInfo = 0x30000
    /// The page in which a restore is announced (`RestoreAnnouncement`).
    static let generation = 0x31000
    static let shimL3 = 0x40000
    static let shimL2 = 0x41000
    /// Strict isolation: the users' tables for the shim's L4 slot, and the kernel's for the gate.
    static let userL3 = 0x42000
    static let userL2 = 0x43000
    static let userGateL1 = 0x44000
    static let kernelGateL1 = 0x45000
    static let directL3 = 0x50000
    static let m2pL3 = 0x51000
    static let m2pL2 = 0x52000
    static let directL2 = 0x60000
    static let m2p = 0x40_0000
    /// What the shim's own L4 slot maps: image, shared info, nothing else.
    static let imageBytesMax = 0x30000

    /// The page where `syscall` lands, then the IDT; the kernel's tables and the users' show other ones.
    static let gate = virtualBase + 0x40_0000
    static let gateIDT = gate + UInt64(pageBytes)

    static let slots = (shim: 262, direct: 263, m2p: 264)
    static let largePage = 2 << 20
    /// Limited by one L3 page of the direct map.
    static let memoryBytesMax = 512 << 30

    static let version: UInt64 = 1
    static let eventVectorBase: UInt32 = 0x40
    static let eventVectors = 16
    static let consolePort: UInt64 = 1
    /// The event channel of device 0; vector base + 1 + n is device n's.
    static let devicePort: UInt64 = 32
    /// Vector base + 0 is the timer, the last one says that the guest was restored.
    static let devicesMax = eventVectors - 2
    /// The event channel of that one, and its vector, which the local APIC delivers before all others.
    static let restorePort = devicePort + UInt64(devicesMax)
    static let restoreVector = eventVectorBase + UInt32(eventVectors) - 1
    static let exitPort: UInt16 = 0xe8
    /// Interrupts that the shim asks whether this KVM waits for an EOI.
    static let eoiProbes: UInt8 = 16

    // Offsets into `struct cpu`.
    static let cpuEOIProbes = 2
    static let cpuStrict = 4
    static let cpuVCPUInfo = 8
    static let cpuUserGS = 32
    static let cpuKernelCR3 = 56
    static let cpuPVEOI = 64
    static let cpuPorts = 192

    // Offsets into `struct params`.
    static let paramRAMBytes = 0
    static let paramL3Shim = 8
    static let paramL3Direct = 16
    static let paramL3M2P = 24
    static let paramInitialVCPUInfo = 32
    static let paramConsolePort = 40
    static let paramTSCKilohertz = 48
    static let paramTime = 56
    static let paramDevicePorts = 88
    static let paramL3User = 96
    static let paramExitReason = 120
    static let paramExitArguments = 128
    static let paramVCPUInfoAddress = 160
    static let paramTimeAreaAddress = 168
    static let paramFlags = 176
    /// The kernel reads the GS base of user code without a trap.
    static let flagInactiveBase: UInt64 = 2

    // Offsets into `struct shared_info` and `struct vcpu_info` (xen/interface/xen.h).
    static let vcpuMask = 1
    static let vcpuTime = 32
    static let sharedMask = 2560
    static let sharedWallClock = 3072

    /// Bytes of the slot for a guest of this memory size: tables, then the machine-to-physical table.
    static func slotBytes(memoryBytes: Int) -> Int {
        let table = memoryBytes / pageBytes * 8
        return m2p + (table + largePage - 1) / largePage * largePage
    }
}

/// Why the shim left the guest; `EXIT_*` of `layout.h`.
enum ShimExit: UInt64 {
    case consoleWrite = 1
    case consoleRing = 2
    case shutdown = 3
    case unknownHypercall = 4
    case panic = 5
}
