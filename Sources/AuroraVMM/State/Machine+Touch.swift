internal import CLinux
import Linux

extension Machine {
    /// Has KVM know the pages that a start uses before the guest runs; the guest notices nothing of it.
    ///
    /// A KVM that shadows page tables learns each address by a fault, which costs a request some microseconds each. Here the vCPU reads
    /// or writes (adding nothing) each of them in ring 3, with the guest's page tables and no descriptor of the guest's for exceptions:
    /// what goes wrong ends the run. Interrupts cannot arrive. `begin` then loads the whole state, whether this went well or not. A machine
    /// in hvm mode needs none of it.
    ///
    /// - Parameters:
    ///   - state: what `begin` will load; the guest's memory is that of this state already.
    ///   - roots: guest-physical addresses of the guest's top page tables.
    ///   - uses: of each page of memory: 0 when it is not used, 1 when it is read, 2 when it is written.
    /// - Returns: how many addresses were touched.
    /// - Throws: `MachineError` saying why not all of them were touched; the machine can begin all the same.
    func touchAhead(_ state: MachineState, roots: [UInt64], uses: [UInt8]) throws(MachineError) -> Int {
        guard isPaused, end == nil, runningSince == 0 else { throw .configuration("only a machine that has never run can be prepared") }
        guard mode == .pv, state.mode == .pv, !roots.isEmpty, GuestTables.reachShim(in: memory) else { return 0 }
        let touches = GuestTables.touches(in: memory, roots: roots, uses: uses)
        guard let slot = memory.regions.first(where: { $0.start == ShimLayout.slotAddress }) else { return 0 }
        var run = try TouchRun(cpu: runner.cpu, page: slot.mapping.base + ShimLayout.generation, state: state)
        defer { run.putBack() }
        for touch in touches { try run.touch(touch) }
        return touches.reduce(0) { $0 + $1.addresses.count }
    }

    /// Whether a page of a pv guest looks like one of its top page tables, as `touchAhead` wants them.
    public static func isTopTable(_ page: UnsafeRawBufferPointer) -> Bool { GuestTables.isTop(page) }
}

/// The vCPU touching pages: a loop and a list of addresses in a page of the shim's, which is put back afterwards.
private struct TouchRun {
    /// A list of addresses at %rsi, %ecx of them: reads a byte of each, or writes back what it holds when bit 0 is set.
    private static let code: [UInt8] = [
        0x48, 0x8b, 0x06,  // 0: mov (%rsi), %rax
        0x48, 0x83, 0xc6, 0x08,  // add $8, %rsi
        0xa8, 0x01,  // test $1, %al
        0x75, 0x04,  // jnz 1f
        0x8a, 0x00,  // mov (%rax), %al
        0xeb, 0x04,  // jmp 2f
        0x80, 0x48, 0xff, 0x00,  // 1: orb $0, -1(%rax)
        0xff, 0xc9,  // 2: dec %ecx
        0x75, 0xe9,  // jnz 0b
        0x0f, 0x0b,  // ud2: nobody handles it, which is the way out
    ]
    private static let end = 23
    private static let interruptionsMax = 64
    private static let listOffset = 64
    private static let addressesMax = (pageBytes - listOffset) / 8

    private let cpu: VirtualCPU
    private let page: UnsafeMutableRawPointer
    private let saved: [UInt8]
    private var system: kvm_sregs

    init(cpu: VirtualCPU, page: UnsafeMutableRawPointer, state: MachineState) throws(MachineError) {
        self.cpu = cpu
        self.page = page
        saved = Array(UnsafeRawBufferPointer(start: page, count: pageBytes))
        let bytes = state.vcpu.systemRegisters.bytes
        guard bytes.count == MemoryLayout<kvm_sregs>.size, let table = CPUIDTable(state.vcpu.cpuid.bytes) else {
            throw .state("its processor's registers are malformed")
        }
        // Afterwards KVM takes no other one.
        if table.bytes != cpu.cpuid.bytes { try cpu.setCPUID(table) }
        system = bytes.withUnsafeBytes { $0.loadUnaligned(as: kvm_sregs.self) }
        system.cs = PVPlatform.segment(selector: 0x33, type: 11, long: true)
        let data = PVPlatform.segment(selector: 0x2b, type: 3, long: false)
        (system.ds, system.es, system.fs, system.gs, system.ss) = (data, data, data, data, data)
        system.idt.limit = 0
        system.interrupt_bitmap = (0, 0, 0, 0)
        try silence()
        var running = kvm_mp_state()
        running.mp_state = UInt32(KVM_MP_STATE_RUNNABLE)
        try cpu.set(CKVM_SET_MP_STATE, running, "the MP state")
        page.copyMemory(from: TouchRun.code, byteCount: TouchRun.code.count)
    }

    /// Takes what a rehearsal may have left pending in the local APIC.
    private func silence() throws(MachineError) {
        cpu.writeMSR(ModelSpecificRegister.timerDeadline, 0)
        var apic = try cpu.get(CKVM_GET_LAPIC, kvm_lapic_state(), "the local APIC")
        withUnsafeMutableBytes(of: &apic) { registers in
            registers.storeBytes(of: UInt32(0xff), toByteOffset: 0xf0, as: UInt32.self)  // spurious vector, disabled
            registers.storeBytes(of: UInt32(0x1_0000), toByteOffset: 0x320, as: UInt32.self)  // timer, masked
            for word in 0..<8 {
                registers.storeBytes(of: UInt32(0), toByteOffset: 0x100 + 16 * word, as: UInt32.self)  // in service
                registers.storeBytes(of: UInt32(0), toByteOffset: 0x200 + 16 * word, as: UInt32.self)  // requested
            }
        }
        try cpu.set(CKVM_SET_LAPIC, apic, "the local APIC")
    }

    mutating func touch(_ touches: GuestTables.Touches) throws(MachineError) {
        system.cr3 = touches.root
        var rest = touches.addresses[...]
        while !rest.isEmpty {
            let part = rest.prefix(TouchRun.addressesMax)
            rest = rest.dropFirst(part.count)
            part.withUnsafeBytes { list in
                if let base = list.baseAddress { (page + TouchRun.listOffset).copyMemory(from: base, byteCount: list.count) }
            }
            try cpu.set(CKVM_SET_SREGS, system, "system registers")
            try run(part.count)
        }
    }

    private func run(_ count: Int) throws(MachineError) {
        let start = ShimLayout.virtualBase + UInt64(ShimLayout.generation)
        var registers = kvm_regs()
        registers.rip = start
        registers.rsi = start + UInt64(TouchRun.listOffset)
        registers.rcx = UInt64(count)
        registers.rflags = 2
        try cpu.set(CKVM_SET_REGS, registers, "registers")
        var result = cpu.enter()
        for _ in 0..<TouchRun.interruptionsMax where result == -Int(EINTR) { result = cpu.enter() }
        guard result == 0 else { throw .state("KVM cannot run the vCPU: \(Errno(rawValue: Int32(truncatingIfNeeded: -result)))") }
        let left = try cpu.get(CKVM_GET_REGS, kvm_regs(), "registers")
        guard cpu.run.pointee.exit_reason == UInt32(KVM_EXIT_SHUTDOWN), left.rcx == 0, left.rip == start + UInt64(TouchRun.end) else {
            let place = String(left.rip, radix: 16)
            throw .state("touching pages ended at 0x\(place) with \(left.rcx) of \(count) left, by exit \(cpu.run.pointee.exit_reason)")
        }
    }

    func putBack() { saved.withUnsafeBytes { if let base = $0.baseAddress { page.copyMemory(from: base, byteCount: saved.count) } } }
}
