internal import CLinux
import Linux

/// The interrupt controllers that belong to no vCPU: two PICs and the IOAPIC (`KVM_GET_IRQCHIP`).
public struct InterruptState: Codable, Equatable, Sendable {
    /// The three chips, in the order of their numbers; none for a pv guest, which has no use for them.
    public var chips: [KernelBytes]
}

extension VirtualMachine {
    private static let chips: UInt32 = 3

    /// Reads the interrupt controllers.
    ///
    /// - Throws: `MachineError.system`.
    func saveInterrupts() throws(MachineError) -> InterruptState {
        var chips: [KernelBytes] = []
        for index in 0..<VirtualMachine.chips {
            var chip = kvm_irqchip()
            chip.chip_id = index
            try control("read interrupt controller \(index) of", CKVM_GET_IRQCHIP, &chip)
            chips.append(KernelBytes(withUnsafeBytes(of: chip) { Array($0) }))
        }
        return InterruptState(chips: chips)
    }

    /// Writes the interrupt controllers.
    ///
    /// - Parameter mayLack: whether they may be missing, because the guest does not use them.
    /// - Throws: `MachineError.state` for what KVM refuses.
    func load(_ state: InterruptState, mayLack: Bool) throws(MachineError) {
        if mayLack, state.chips.isEmpty { return }
        guard state.chips.count == Int(VirtualMachine.chips) else { throw .state("\(state.chips.count) interrupt controllers") }
        for (index, saved) in state.chips.enumerated() {
            guard saved.bytes.count == MemoryLayout<kvm_irqchip>.size, saved.load(0, as: UInt32.self) == UInt32(index) else {
                throw .state("interrupt controller \(index) is malformed")
            }
            var chip = kvm_irqchip()
            withUnsafeMutableBytes(of: &chip) { $0.copyBytes(from: saved.bytes) }
            do throws(MachineError) {
                try control("write interrupt controller \(index) of", CKVM_SET_IRQCHIP, &chip)
            } catch { throw .state("\(error)") }
        }
    }
}
