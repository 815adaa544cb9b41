internal import CLinux
import Linux
import Synchronization

extension VirtualCPU {
    /// Reads the whole state.
    ///
    /// The vCPU is parked.
    ///
    /// - Throws: `MachineError.system`.
    func save() throws(MachineError) -> VCPUState {
        let state = try get(CKVM_GET_MP_STATE, kvm_mp_state(), "the MP state")
        // The APIC is read before the registers that its timer's interrupt may change: KVM moves a pending interrupt
        // into the events, never back.
        return VCPUState(
            cpuid: KernelBytes(cpuid.bytes),
            registers: try bytes(CKVM_GET_REGS, MemoryLayout<kvm_regs>.size, "registers"),
            systemRegisters: try bytes(CKVM_GET_SREGS, MemoryLayout<kvm_sregs>.size, "system registers"),
            extendedControl: try bytes(CKVM_GET_XCRS, MemoryLayout<kvm_xcrs>.size, "extended control registers"),
            extendedRegisters: try saveExtendedRegisters(),
            debugRegisters: try bytes(CKVM_GET_DEBUGREGS, MemoryLayout<kvm_debugregs>.size, "debug registers"),
            localAPIC: try bytes(CKVM_GET_LAPIC, MemoryLayout<kvm_lapic_state>.size, "the local APIC"),
            events: try bytes(CKVM_GET_VCPU_EVENTS, MemoryLayout<kvm_vcpu_events>.size, "events"),
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
        let indexes = SavedRegisterList.shared.indexes(of: self)
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
}

/// Which of the registers to save this host lets be read: found out once, by trying, because newer kernels refuse
/// registers that a vCPU's CPUID table does not announce, and one refusal ends the whole request.
final class SavedRegisterList: Sendable {
    static let shared = SavedRegisterList()
    /// By the CPUID table: another table may announce other registers.
    private let lists = Mutex<[CPUIDTable: [UInt32]]>([:])
    private static let listsMax = 16

    func indexes(of cpu: VirtualCPU) -> [UInt32] {
        let table = cpu.cpuid
        if let known = lists.withLock({ $0[table] }) { return known }
        let found = ModelSpecificRegister.saved.filter { cpu.readMSR($0) != nil }
        lists.withLock { lists in
            if lists.count >= SavedRegisterList.listsMax { lists.removeAll() }
            lists[table] = found
        }
        return found
    }
}
