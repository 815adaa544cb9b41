internal import CLinux
import Linux

extension VirtualCPU {
    /// Reads the whole state.
    ///
    /// The vCPU is parked.
    ///
    /// - Throws: `MachineError.system`.
    func save() throws(MachineError) -> VCPUState {
        let state = try get(CKVM_GET_MP_STATE, kvm_mp_state(), "the MP state")
        // The APIC is read before the events that its timer's interrupt may change, unless KVM left those in the run page when the
        // vCPU parked: it moves a pending interrupt into the events when it enters the guest, never back.
        let (general, system, events) = (MemoryLayout<kvm_regs>.size, MemoryLayout<kvm_sregs>.size, MemoryLayout<kvm_vcpu_events>.size)
        let isLeft = registersAreInRunPage
        return VCPUState(
            cpuid: cpuidBytes,
            registers: isLeft ? leftRegisters(from: 0, count: general) : try bytes(CKVM_GET_REGS, general, "registers"),
            systemRegisters: isLeft
                ? leftRegisters(from: general, count: system) : try bytes(CKVM_GET_SREGS, system, "system registers"),
            extendedControl: try bytes(CKVM_GET_XCRS, MemoryLayout<kvm_xcrs>.size, "extended control registers"),
            extendedRegisters: try saveExtendedRegisters(),
            debugRegisters: try bytes(CKVM_GET_DEBUGREGS, MemoryLayout<kvm_debugregs>.size, "debug registers"),
            localAPIC: try bytes(CKVM_GET_LAPIC, MemoryLayout<kvm_lapic_state>.size, "the local APIC"),
            events: isLeft
                ? leftRegisters(from: general + system, count: events) : try bytes(CKVM_GET_VCPU_EVENTS, events, "events"),
            multiprocessingState: state.mp_state,
            modelSpecificRegisters: try saveModelSpecificRegisters())
    }

    /// Reads a structure as bytes.
    private func bytes(_ request: UInt, _ count: Int, _ what: @autoclosure () -> String) throws(MachineError) -> KernelBytes {
        var bytes = [UInt8](repeating: 0, count: count)
        let number = descriptor.rawValue
        try machineCall("read \(what()) of", "a vCPU") {
            bytes.withUnsafeMutableBytes { clinux_ioctl(number, request, UInt(bitPattern: $0.baseAddress)) }
        }
        return KernelBytes(bytes)
    }

    private func saveExtendedRegisters() throws(MachineError) -> KernelBytes {
        extendedRegisterBytes > VirtualCPU.legacyXSAVEBytes
            ? try bytes(CKVM_GET_XSAVE2, extendedRegisterBytes, "extended registers")
            : try bytes(CKVM_GET_XSAVE, VirtualCPU.legacyXSAVEBytes, "extended registers")
    }

    private func saveModelSpecificRegisters() throws(MachineError) -> KernelBytes {
        let indexes = savedRegisters ?? findSavedRegisters()
        var request = [UInt8](repeating: 0, count: MSREntry.headerBytes + indexes.count * MSREntry.bytes)
        let number = descriptor.rawValue
        let count = try machineCall("read model-specific registers of", "a vCPU") {
            request.withUnsafeMutableBytes { buffer in
                buffer.storeBytes(of: UInt32(indexes.count), as: UInt32.self)
                for (entry, index) in indexes.enumerated() {
                    buffer.storeBytes(of: index, toByteOffset: MSREntry.headerBytes + entry * MSREntry.bytes, as: UInt32.self)
                }
                return clinux_ioctl(number, CKVM_GET_MSRS, UInt(bitPattern: buffer.baseAddress))
            }
        }
        guard count == indexes.count else {
            throw .system(SystemError("read", "model-specific register 0x\(String(indexes[count], radix: 16))", errno: .inputOutput))
        }
        return KernelBytes(Array(request[MSREntry.headerBytes...]))
    }
    /// Finds out which of the registers to save this host lets be read, by trying: newer kernels refuse registers that a vCPU's CPUID
    /// table does not announce, and one refusal ends the whole request.
    ///
    /// Costs a request for each refusal, so it is done before the guest runs and not in the first stop. The vCPU is parked
    /// and has its CPUID table.
    @discardableResult
    func findSavedRegisters() -> [UInt32] {
        var found: [UInt32] = []
        var rest = ModelSpecificRegister.saved[...]
        while !rest.isEmpty {
            let count = readableMSRs(rest)
            found += rest.prefix(count)
            rest = rest.dropFirst(count + 1)
        }
        savedRegisters = found
        return found
    }

    /// How many of these registers can be read, up to the first that KVM refuses.
    private func readableMSRs(_ indexes: ArraySlice<UInt32>) -> Int {
        // kvm_msrs: count and padding, then index, reserved, value.
        var words = [UInt64(indexes.count)]
        for index in indexes { words += [UInt64(index), 0] }
        let number = descriptor.rawValue
        return max(0, words.withUnsafeMutableBytes { clinux_ioctl(number, CKVM_GET_MSRS, UInt(bitPattern: $0.baseAddress)) })
    }
}
