internal import CLinux
import Linux

extension VirtualCPU {
    /// Gives a new vCPU a saved state, which is as hostile as a guest: sizes are checked here, values by KVM.
    ///
    /// The order matters. The CPUID table decides which bits and registers exist; the system registers hold the APIC's
    /// address; the APIC's timer mode decides what the deadline means; a deadline starts the timer at once, so it comes
    /// after the time-stamp counter; events come after everything that could queue one.
    ///
    /// - Throws: `MachineError.state` for a value of a wrong size or version, or one that KVM refuses.
    func load(_ state: VCPUState, keepsTimeStampCounter: Bool) throws(MachineError) {
        guard state.version == VCPUState.currentVersion else { throw .state("vCPU version \(state.version) is unknown") }
        guard let table = CPUIDTable(state.cpuid.bytes) else { throw .state("its CPUID table is malformed") }
        guard VirtualCPU.runnableStates.contains(state.multiprocessingState) else {
            throw .state("its vCPU is in state \(state.multiprocessingState)")
        }
        registersAreInRunPage = false
        do throws(MachineError) {
            // One that has run takes no table any more, not even its own: KVM keeps some bits of it up to date.
            if table.bytes != cpuid.bytes { try setCPUID(table) }
            try write(CKVM_SET_SREGS, VirtualCPU.withoutNullTable(state.systemRegisters), MemoryLayout<kvm_sregs>.size, "system registers")
            try write(CKVM_SET_XCRS, state.extendedControl, MemoryLayout<kvm_xcrs>.size, "extended control registers")
            try write(CKVM_SET_XSAVE, try fitted(state.extendedRegisters), extendedRegisterBytes, "extended registers")
            try write(CKVM_SET_DEBUGREGS, state.debugRegisters, MemoryLayout<kvm_debugregs>.size, "debug registers")
            try loadModelSpecificRegisters(state, keepsTimeStampCounter: keepsTimeStampCounter)
            try write(CKVM_SET_LAPIC, state.localAPIC, MemoryLayout<kvm_lapic_state>.size, "the local APIC")
            loadDeadline(state)
            try write(CKVM_SET_VCPU_EVENTS, state.events, MemoryLayout<kvm_vcpu_events>.size, "events")
            var multiprocessing = kvm_mp_state()
            multiprocessing.mp_state = state.multiprocessingState
            try set(CKVM_SET_MP_STATE, multiprocessing, "the MP state")
            try write(CKVM_SET_REGS, state.registers, MemoryLayout<kvm_regs>.size, "registers")
        } catch {
            if case .system(let cause) = error { throw .state("\(cause)") }
            throw error
        }
    }

    /// System registers whose local descriptor table, if its selector is the null one, is none.
    ///
    /// KVM resets that register to a table of 64 KiB at address 0, and a checkpoint of a guest that never set it holds that: a KVM that
    /// emulates the load of a segment then reads descriptors there, on behalf of whatever program asked, and faults in the kernel's name.
    static func withoutNullTable(_ saved: KernelBytes) -> KernelBytes {
        guard let table = MemoryLayout<kvm_sregs>.offset(of: \.ldt), let selector = MemoryLayout<kvm_segment>.offset(of: \.selector),
            let unusable = MemoryLayout<kvm_segment>.offset(of: \.unusable), saved.load(table + selector, as: UInt16.self) == 0
        else { return saved }
        var registers = saved
        registers.store(UInt8(1), at: table + unusable)
        return registers
    }

    private static let runnableStates: Set<UInt32> = [UInt32(KVM_MP_STATE_RUNNABLE), UInt32(KVM_MP_STATE_HALTED)]

    private func write(_ request: UInt, _ value: KernelBytes, _ count: Int, _ what: String) throws(MachineError) {
        guard value.bytes.count == count else { throw .state("\(what): \(value.bytes.count) bytes instead of \(count)") }
        var bytes = value.bytes
        let number = descriptor.rawValue
        try machineCall("write \(what) of", "a vCPU") {
            bytes.withUnsafeMutableBytes { clinux_ioctl(number, request, UInt(bitPattern: $0.baseAddress)) }
        }
    }

    /// The extended registers in the size this host wants: KVM reads that many bytes whatever it is given.
    private func fitted(_ saved: KernelBytes) throws(MachineError) -> KernelBytes {
        let wanted = extendedRegisterBytes
        guard saved.bytes.count >= VirtualCPU.legacyXSAVEBytes, saved.bytes.count <= VirtualCPU.xsaveBytesMax else {
            throw .state("extended registers: \(saved.bytes.count) bytes")
        }
        if saved.bytes.count > wanted {
            guard saved.bytes[wanted...].allSatisfy({ $0 == 0 }) else {
                throw .state("its extended registers need \(saved.bytes.count) bytes, this host has \(wanted)")
            }
            return KernelBytes(Array(saved.bytes[..<wanted]))
        }
        return KernelBytes(saved.bytes + [UInt8](repeating: 0, count: wanted - saved.bytes.count))
    }

    private func loadModelSpecificRegisters(_ state: VCPUState, keepsTimeStampCounter: Bool) throws(MachineError) {
        let saved = state.modelSpecificRegisters
        guard saved.bytes.count % MSREntry.bytes == 0, saved.bytes.count / MSREntry.bytes <= ModelSpecificRegister.saved.count else {
            throw .state("model-specific registers: \(saved.bytes.count) bytes")
        }
        for index in ModelSpecificRegister.required where state.modelSpecificRegister(index) == nil {
            throw .state("model-specific register 0x\(String(index, radix: 16)) is missing")
        }
        var entries: [(index: UInt32, value: UInt64)] = []
        for entry in stride(from: 0, to: saved.bytes.count, by: MSREntry.bytes) {
            guard let index: UInt32 = saved.load(entry), let value: UInt64 = saved.load(entry + MSREntry.valueOffset) else { continue }
            guard ModelSpecificRegister.saved.contains(index) else {
                throw .state("model-specific register 0x\(String(index, radix: 16)) is not one that is saved")
            }
            if index == ModelSpecificRegister.timerDeadline { continue }
            if index == ModelSpecificRegister.timeStampCounter, !keepsTimeStampCounter { continue }
            entries.append((index, value))
        }
        var rest = entries[...]
        while true {
            rest = rest.dropFirst(writeMSRs(rest))
            guard let refused = rest.first else { return }
            // A register that this host lacks and that holds nothing is no loss.
            guard refused.value == 0 else {
                let (value, index) = (String(refused.value, radix: 16), String(refused.index, radix: 16))
                throw .state("this host's KVM refuses value 0x\(value) for model-specific register 0x\(index)")
            }
            rest = rest.dropFirst()
        }
    }

    /// Writes registers in one request, which ends at the first that KVM refuses.
    ///
    /// - Returns: how many were written.
    private func writeMSRs(_ entries: ArraySlice<(index: UInt32, value: UInt64)>) -> Int {
        guard !entries.isEmpty else { return 0 }
        // kvm_msrs: count and padding, then index, reserved, value.
        var words = [UInt64(entries.count)]
        for entry in entries { words += [UInt64(entry.index), entry.value] }
        let number = descriptor.rawValue
        return max(0, words.withUnsafeMutableBytes { clinux_ioctl(number, CKVM_SET_MSRS, UInt(bitPattern: $0.baseAddress)) })
    }

    /// Arms the APIC's deadline timer.
    ///
    /// A deadline that had passed reads as zero although its interrupt may not have been
    /// delivered; loading zero would lose it and hang the guest, so such a timer is made to expire at once: one interrupt
    /// too many does no harm.
    private func loadDeadline(_ state: VCPUState) {
        guard let timer: UInt32 = state.localAPIC.load(VirtualCPU.apicTimerOffset), timer >> 17 & 3 == 2,
            let saved = state.modelSpecificRegister(ModelSpecificRegister.timerDeadline)
        else { return }
        let isMasked = timer >> 16 & 1 != 0
        if saved != 0 {
            writeMSR(ModelSpecificRegister.timerDeadline, saved)
        } else if !isMasked {
            writeMSR(ModelSpecificRegister.timerDeadline, max(1, readMSR(ModelSpecificRegister.timeStampCounter) ?? 1))
        }
    }

    private static let apicTimerOffset = 0x320
}
