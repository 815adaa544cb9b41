internal import CLinux

/// The first state of an hvm guest's processor.
extension VirtualCPU {
    private enum MSR {
        static let miscEnable: UInt32 = 0x1a0
        static let memoryTypeDefault: UInt32 = 0x2ff
    }

    /// Puts the processor at the 64-bit entry of a Linux kernel, as Documentation/x86/boot.rst of Linux asks for.
    ///
    /// - Throws: `MachineError.system`.
    func startInLongMode(entry: UInt64, cpuid: CPUIDTable) throws(MachineError) {
        try setCPUID(cpuid)
        var system = try get(CKVM_GET_SREGS, kvm_sregs(), "system registers")
        system.cs = VirtualCPU.segment(LongMode.Selector.code, type: 11, long: true)
        let data = VirtualCPU.segment(LongMode.Selector.data, type: 3, long: false)
        (system.ds, system.es, system.fs, system.gs, system.ss) = (data, data, data, data, data)
        system.tr = kvm_segment()
        system.tr.selector = LongMode.Selector.task
        system.tr.limit = 0x67
        system.tr.type = 11
        system.tr.present = 1
        system.gdt.base = HVMLayout.descriptorTable.rawValue
        system.gdt.limit = UInt16(LongMode.descriptors.count * 8 - 1)
        system.idt.base = 0
        system.idt.limit = 0
        system.cr0 = 0x8000_0031  // paging, numeric error, extension type, protection
        system.cr3 = HVMLayout.pageTables.rawValue
        system.cr4 = 1 << 5  // physical address extension
        system.efer = 1 << 8 | 1 << 10  // long mode enabled and active
        try set(CKVM_SET_SREGS, system, "system registers")
        // What firmware leaves behind: fast string instructions, and memory that is write-back wherever nothing else is said.
        writeMSR(MSR.miscEnable, 1)
        writeMSR(MSR.memoryTypeDefault, 1 << 11 | 6)
        var registers = kvm_regs()
        registers.rip = entry
        registers.rsi = HVMLayout.bootParameters.rawValue
        registers.rflags = 2
        try set(CKVM_SET_REGS, registers, "registers")
    }

    private static func segment(_ selector: UInt16, type: UInt8, long: Bool) -> kvm_segment {
        var segment = kvm_segment()
        segment.limit = 0xffff_ffff
        segment.selector = selector
        segment.type = type
        segment.present = 1
        segment.s = 1
        segment.l = long ? 1 : 0
        segment.db = long ? 0 : 1
        segment.g = 1
        return segment
    }
}
