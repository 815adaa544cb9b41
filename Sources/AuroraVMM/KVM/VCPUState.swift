/// All that KVM keeps of a vCPU, as plain values: read with the vCPU parked, written to a new one.
///
/// Source: Documentation/virt/kvm/api.rst of Linux; each field names the request that reads it.
public struct VCPUState: Codable, Equatable, Sendable {
    /// The version written by this code.
    public static let currentVersion = 1

    /// The layout of this value.
    public var version = VCPUState.currentVersion
    /// The CPUID table the guest was given (`KVM_SET_CPUID2`).
    public var cpuid: KernelBytes
    /// General registers (`KVM_GET_REGS`).
    public var registers: KernelBytes
    /// Segments, control registers, interrupt in flight (`KVM_GET_SREGS`).
    public var systemRegisters: KernelBytes
    /// XCR0 (`KVM_GET_XCRS`).
    public var extendedControl: KernelBytes
    /// x87, SSE, AVX and AVX-512 registers (`KVM_GET_XSAVE2`).
    public var extendedRegisters: KernelBytes
    /// Debug registers (`KVM_GET_DEBUGREGS`).
    public var debugRegisters: KernelBytes
    /// The local APIC with its timer's current count (`KVM_GET_LAPIC`).
    public var localAPIC: KernelBytes
    /// Exceptions, interrupts and NMIs in flight (`KVM_GET_VCPU_EVENTS`).
    public var events: KernelBytes
    /// Running or halted (`KVM_GET_MP_STATE`).
    public var multiprocessingState: UInt32
    /// Model-specific registers (`KVM_GET_MSRS`), 16 bytes each: index, reserved, value.
    public var modelSpecificRegisters: KernelBytes

    /// The value of a model-specific register; nil when it was not saved.
    public func modelSpecificRegister(_ index: UInt32) -> UInt64? {
        for entry in stride(from: 0, to: modelSpecificRegisters.bytes.count, by: MSREntry.bytes)
        where modelSpecificRegisters.load(entry, as: UInt32.self) == index {
            return modelSpecificRegisters.load(entry + MSREntry.valueOffset)
        }
        return nil
    }
}

/// Layout of `kvm_msr_entry`, and of the header before the entries.
enum MSREntry {
    static let bytes = 16
    static let valueOffset = 8
    static let headerBytes = 8
}

/// Model-specific registers by number.
enum ModelSpecificRegister {
    static let timeStampCounter: UInt32 = 0x10
    static let timerDeadline: UInt32 = 0x6e0
    static let pvEndOfInterrupt: UInt32 = 0x4b56_4d04

    /// Without these no guest goes on: the entries of system calls, and the kernel's GS base.
    static let required: [UInt32] = [0xc000_0081, 0xc000_0082, 0xc000_0084, 0xc000_0102]

    /// What a checkpoint holds, where the host has it.
    ///
    /// What the other requests cover (EFER, FS and GS base, APIC base) is
    /// left out. The time-stamp counter comes first because the deadline is measured against it.
    static let saved: [UInt32] =
        [
            timeStampCounter, 0x3b,  // its adjustment
            0x174, 0x175, 0x176,  // SYSENTER
            0x1a0, 0x1d9, 0x277,  // MISC_ENABLE, DEBUGCTL, PAT
            0x48, 0x122, 0xda0, 0x1c4, 0x1c5,  // SPEC_CTRL, TSX_CTRL, XSS, XFD, XFD_ERR
            0xc000_0081, 0xc000_0082, 0xc000_0083, 0xc000_0084,  // STAR, LSTAR, CSTAR, SFMASK
            0xc000_0102, 0xc000_0103,  // KERNEL_GS_BASE, TSC_AUX
            0x4b56_4d00, 0x4b56_4d01, 0x4b56_4d02, 0x4b56_4d03, pvEndOfInterrupt, 0x4b56_4d05, 0x4b56_4d06,  // kvmclock and friends
            0x2ff, 0x250, 0x258, 0x259,  // MTRRs
        ] + (0x268...0x26f) + (0x200...0x20f) + [timerDeadline]
}
