import CLinux
import Linux
import Testing

@testable import AuroraVMM

/// The state of a vCPU that runs nothing: no kernel is needed, only /dev/kvm.
@Suite(.enabled(if: KVMForTests.isThere, "/dev/kvm cannot be used here"))
struct VCPUStateTests {
    private func makeCPU() throws -> (machine: VirtualMachine, cpu: VirtualCPU) {
        let machine = try KVMSystem().createVirtualMachine()
        try machine.createInterruptController()
        return (machine, try machine.createVirtualCPU(0))
    }

    private func savedState(deadlineMode: Bool = false) throws -> VCPUState {
        let (machine, cpu) = try makeCPU()
        try cpu.setCPUID(try machine.system.supportedCPUID())
        if deadlineMode {
            var apic = KernelBytes([UInt8](repeating: 0, count: MemoryLayout<kvm_lapic_state>.size))
            let current = try cpu.get(CKVM_GET_LAPIC, kvm_lapic_state(), "the local APIC")
            withUnsafeBytes(of: current) { apic.bytes = Array($0) }
            apic.store(UInt32(0x1ff), at: 0xf0)
            apic.store(UInt32(2 << 17 | 0x40), at: 0x320)
            var changed = kvm_lapic_state()
            withUnsafeMutableBytes(of: &changed) { $0.copyBytes(from: apic.bytes) }
            try cpu.set(CKVM_SET_LAPIC, changed, "the local APIC")
        }
        return try cpu.save()
    }

    @Test func whatIsLoadedIsWhatWasSaved() throws {
        var state = try savedState()
        state.registers.store(UInt64(0x1234), at: 0)
        state.extendedRegisters.store(UInt64(0xfeed_f00d_dead_beef), at: 160)  // XMM0
        state.extendedRegisters.store(UInt64(3), at: 512)  // XSTATE_BV: x87 and SSE
        let (_, cpu) = try makeCPU()
        try cpu.load(state, keepsTimeStampCounter: false)
        let again = try cpu.save()
        #expect(again.registers == state.registers)
        #expect(again.systemRegisters == VirtualCPU.withoutNullTable(state.systemRegisters))
        #expect(again.extendedRegisters.load(160, as: UInt64.self) == 0xfeed_f00d_dead_beef)
        #expect(again.cpuid == state.cpuid)
        #expect(again.events == state.events)
        for index: UInt32 in [0xc000_0081, 0xc000_0082, 0xc000_0084, 0x277] {
            #expect(again.modelSpecificRegister(index) == state.modelSpecificRegister(index))
        }
    }

    /// A new vCPU gets its CPUID table before anything else (Firecracker #6120).
    ///
    /// Newer kernels refuse registers that the table does not announce; the vCPU here has none until `load` sets it.
    @Test func theTableIsLoadedBeforeTheRegisters() throws {
        var state = try savedState()
        let star: UInt64 = 0x23 << 48 | 8 << 32
        for entry in stride(from: 0, to: state.modelSpecificRegisters.bytes.count, by: MSREntry.bytes)
        where state.modelSpecificRegisters.load(entry, as: UInt32.self) == 0xc000_0081 {
            state.modelSpecificRegisters.store(star, at: entry + MSREntry.valueOffset)
        }
        let (_, cpu) = try makeCPU()
        #expect(cpu.cpuid.count == 0)
        try cpu.load(state, keepsTimeStampCounter: true)
        #expect(cpu.cpuid.bytes == state.cpuid.bytes)
        #expect(cpu.readMSR(0xc000_0081) == star)
    }

    /// A deadline that passed at the moment of the checkpoint reads as zero, and must fire after the restore.
    ///
    /// Firecracker lost such interrupts: loaded as it is, a zero disarms the timer for good.
    @Test func aPassedDeadlineFiresAgain() throws {
        let state = try savedState(deadlineMode: true)
        try #require(state.modelSpecificRegister(ModelSpecificRegister.timerDeadline) == 0)
        let (machine, cpu) = try makeCPU()
        try cpu.load(state, keepsTimeStampCounter: true)
        // It shows as armed, or, where the time has come already, as an interrupt that was requested.
        let armed = cpu.readMSR(ModelSpecificRegister.timerDeadline) ?? 0
        let requested: UInt32 = try cpu.save().localAPIC.load(0x200 + 0x40 / 32 * 0x10) ?? 0
        #expect(armed != 0 || requested & 1 != 0)
        withExtendedLifetime(machine) {}
    }

    /// A masked timer, or one in another mode, is left alone.
    @Test func otherTimersAreLeftAlone() throws {
        let state = try savedState()
        let (_, cpu) = try makeCPU()
        try cpu.load(state, keepsTimeStampCounter: true)
        #expect(cpu.readMSR(ModelSpecificRegister.timerDeadline) ?? 0 == 0)
    }

    @Test func essentialRegistersMustBeThere() throws {
        var state = try savedState()
        state.modelSpecificRegisters.bytes = []
        let (_, cpu) = try makeCPU()
        #expect(throws: MachineError.self) { try cpu.load(state, keepsTimeStampCounter: false) }
    }

    @Test func missingFeaturesAreNamed() {
        var needed = CPUFeatures.host
        #expect(needed.missing(from: .host) == [])
        var host = CPUFeatures.host
        needed.words[CPUFeatures.Word.extendedB.rawValue] |= 1 << 16 | 1 << 5
        host.words[CPUFeatures.Word.extendedB.rawValue] &= ~(1 << 16)
        #expect(needed.missing(from: host).contains("avx512f"))
        #expect(!needed.missing(from: host).contains("avx2") || host.words[CPUFeatures.Word.extendedB.rawValue] & 1 << 5 == 0)
        needed.words[CPUFeatures.Word.moreA.rawValue] = 1 << 30
        host.words[CPUFeatures.Word.moreA.rawValue] = 0
        #expect(needed.missing(from: host).contains("CPUID 0x7.1 eax bit 30"))
    }
}

enum KVMForTests {
    static let isThere = (try? KVMSystem()) != nil
}
