internal import CLinux
import Linux
import Synchronization

/// Makes KVM forget what it derived from a guest's page tables.
///
/// A KVM that shadows page tables watches what the guest writes into them, not what the VMM writes: after a rollback of
/// memory it would go on with the old translations. Moving a memory slot, even one that nobody uses, makes KVM drop all of
/// them (`kvm_arch_flush_shadow_memslot`; 0.02 to 0.1 ms, the first time up to 7 ms).
final class ShadowPages: Sendable {
    private let machine: VirtualMachine
    private let slot: UInt32
    private let places: [GuestAddress]
    private let page: Mapping
    private let isAtSecond = Mutex(false)

    /// Places a page that only the VMM knows; before the interrupt controller is made, like every slot.
    ///
    /// - Parameter address: of two pages that nothing else claims.
    /// - Throws: `MachineError.system`.
    init(_ machine: VirtualMachine, slot: UInt32, at address: GuestAddress) throws(MachineError) {
        self.machine = machine
        self.slot = slot
        places = [address, GuestAddress(address.rawValue + UInt64(pageBytes))]
        do throws(SystemError) { page = try .anonymous(count: pageBytes, what: "a spare page") } catch { throw .system(error) }
        try place(address)
    }

    /// Drops all translations; the vCPU is parked.
    ///
    /// - Throws: `MachineError.system`.
    func drop() throws(MachineError) {
        let isSecond = isAtSecond.withLock { isAtSecond in
            isAtSecond.toggle()
            return isAtSecond
        }
        try place(places[isSecond ? 1 : 0])
    }

    private func place(_ address: GuestAddress) throws(MachineError) {
        try machine.setMemory(slot: slot, at: address, host: page.base, count: pageBytes, flags: UInt32(KVM_MEM_READONLY))
    }
}
