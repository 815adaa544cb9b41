internal import CLinux
import Linux

/// A virtual machine of KVM: memory slots, interrupt controller, event descriptors.
final class VirtualMachine: Sendable {
    let system: KVMSystem
    let descriptor: OwnedDescriptor

    init(system: KVMSystem, descriptor: consuming OwnedDescriptor) {
        self.system = system
        self.descriptor = descriptor
    }

    /// Places host memory into the guest-physical address space (`KVM_SET_USER_MEMORY_REGION`).
    ///
    /// - Throws: `MachineError.system`, for example when slots overlap.
    func setMemory(slot: UInt32, at address: GuestAddress, host: UnsafeMutableRawPointer, count: Int, flags: UInt32 = 0)
        throws(MachineError)
    {
        var region = kvm_userspace_memory_region(
            slot: slot, flags: flags, guest_phys_addr: address.rawValue, memory_size: UInt64(count),
            userspace_addr: UInt64(UInt(bitPattern: host)))
        try control("place memory at \(address) of", CKVM_SET_USER_MEMORY_REGION, &region)
    }

    /// Creates the in-kernel interrupt controllers: local APIC, IOAPIC, PIC.
    ///
    /// Set memory before: each slot afterwards waits 7.5 ms for a grace period.
    ///
    /// - Throws: `MachineError.system`.
    func createInterruptController() throws(MachineError) {
        let number = descriptor.rawValue
        try machineCall("create the interrupt controller of", "the machine") { clinux_ioctl(number, CKVM_CREATE_IRQCHIP, 0) }
    }

    /// Gives KVM the guest-physical pages that VT-x needs for real mode (`KVM_SET_TSS_ADDR`, `KVM_SET_IDENTITY_MAP_ADDR`);
    /// call before the first vCPU.
    ///
    /// - Throws: `MachineError.system`.
    func placeSystemPages(taskState: UInt, identityMap: UInt64) throws(MachineError) {
        let number = descriptor.rawValue
        try machineCall("place the task state of", "the machine") { clinux_ioctl(number, CKVM_SET_TSS_ADDR, taskState) }
        var identityMap = identityMap
        try control("place the identity map of", CKVM_SET_IDENTITY_MAP_ADDR, &identityMap)
    }

    /// Creates vCPU `index`.
    ///
    /// - Throws: `MachineError.system`.
    func createVirtualCPU(_ index: Int) throws(MachineError) -> VirtualCPU {
        let number = descriptor.rawValue
        let cpu = try machineCall("create a vCPU of", "the machine") { clinux_ioctl(number, CKVM_CREATE_VCPU, UInt(index)) }
        let xsaveBytes = max(0, clinux_ioctl(number, CKVM_CHECK_EXTENSION, UInt(KVM_CAP_XSAVE2)))
        return try VirtualCPU(
            descriptor: OwnedDescriptor(adopting: Int32(cpu)), runBytes: system.runBytes, extendedRegisterBytes: xsaveBytes,
            registersOffered: system.capability(KVM_CAP_SYNC_REGS))
    }

    /// Makes a guest's write to `address` signal `event` without an exit (`KVM_IOEVENTFD`).
    ///
    /// - Parameter match: only this value signals; nil: any.
    /// - Throws: `MachineError.system`.
    func connect(_ event: EventDescriptor, toWriteAt address: GuestAddress, length: UInt32 = 4, match: UInt64?) throws(MachineError) {
        var request = kvm_ioeventfd()
        request.addr = address.rawValue
        request.len = length
        request.fd = event.rawValue
        if let match {
            request.datamatch = match
            request.flags = 1 << 0  // KVM_IOEVENTFD_FLAG_DATAMATCH
        }
        try control("watch a doorbell of", CKVM_IOEVENTFD, &request)
    }

    /// Makes signals of `event` raise interrupt `gsi` (`KVM_IRQFD`).
    ///
    /// - Throws: `MachineError.system`.
    func connect(_ event: EventDescriptor, toInterrupt gsi: UInt32) throws(MachineError) {
        var request = kvm_irqfd()
        request.fd = UInt32(bitPattern: event.rawValue)
        request.gsi = gsi
        try control("connect an interrupt of", CKVM_IRQFD, &request)
    }

    /// Routes interrupt numbers: each to a vector of vCPU 0's local APIC as an MSI (`KVM_SET_GSI_ROUTING`).
    ///
    /// - Throws: `MachineError.system`.
    func routeInterrupts(_ vectors: [(gsi: UInt32, vector: UInt32)]) throws(MachineError) {
        // kvm_irq_routing: nr, flags, then entries of 48 bytes: gsi, type, flags, pad, then address_lo, address_hi, data.
        var words = [UInt32](repeating: 0, count: 2 + vectors.count * 12)
        words[0] = UInt32(vectors.count)
        for (index, route) in vectors.enumerated() {
            let word = 2 + index * 12
            words[word] = route.gsi
            words[word + 1] = UInt32(KVM_IRQ_ROUTING_MSI)
            words[word + 4] = 0xfee0_0000
            words[word + 6] = route.vector
        }
        let number = descriptor.rawValue
        try machineCall("route the interrupts of", "the machine") {
            words.withUnsafeMutableBytes { clinux_ioctl(number, CKVM_SET_GSI_ROUTING, UInt(bitPattern: $0.baseAddress)) }
        }
    }

    /// Makes an interrupt pending at vCPU 0's local APIC (`KVM_SIGNAL_MSI`).
    ///
    /// - Throws: `MachineError.system`.
    func signal(vector: UInt32) throws(MachineError) {
        var message = kvm_msi()
        message.address_lo = 0xfee0_0000
        message.data = vector
        try control("raise an interrupt of", CKVM_SIGNAL_MSI, &message)
    }

    /// Raises and lowers an input of the IOAPIC (`KVM_IRQ_LINE`), which an edge-triggered entry takes for one interrupt.
    ///
    /// - Throws: `MachineError.system`.
    func pulse(interrupt gsi: UInt32) throws(MachineError) {
        for level: UInt32 in [1, 0] {
            var line = kvm_irq_level()
            line.irq = gsi
            line.level = level
            try control("raise an interrupt of", CKVM_IRQ_LINE, &line)
        }
    }

    /// Enables a capability with one argument (`KVM_ENABLE_CAP`).
    ///
    /// - Throws: `MachineError.system`.
    func enable(capability: UInt32, argument: UInt64) throws(MachineError) {
        var request = kvm_enable_cap()
        request.cap = capability
        request.args.0 = argument
        try control("enable capability \(capability) of", CKVM_ENABLE_CAP, &request)
    }

    func control<Argument>(_ operation: @autoclosure () -> String, _ request: UInt, _ argument: inout Argument) throws(MachineError) {
        let number = descriptor.rawValue
        try machineCall(operation(), "the machine") {
            withUnsafeMutablePointer(to: &argument) { clinux_ioctl(number, request, UInt(bitPattern: $0)) }
        }
    }
}
