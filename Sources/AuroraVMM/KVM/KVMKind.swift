internal import CLinux
import Linux

/// What kind of virtualization a host's KVM does.
public enum KVMKind: String, Sendable, Codable {
    /// VT-x or AMD-V: ring 0 of a guest runs natively.
    case hardware
    /// Ring 0 is emulated instruction by instruction (kvm_pvm, or a KVM without hardware support).
    case emulatedRing0 = "emulated-ring-0"

    /// The mode in which a kernel runs best.
    public var preferredMode: GuestMode { self == .hardware ? .hvm : .pv }

    private static let loopCount: UInt32 = 1_500
    static let passesMax = 7
    /// A native loop of this count takes some 1 µs, one in software emulation of hardware support 0.1 ms, an emulated one 1.5 ms.
    static let nativeNanosecondsMax: Int64 = 300_000

    /// What passes of the loop say, each the time it took, nil where it did not end as it should.
    ///
    /// Others on the host only make a pass longer, so one that was short decides: a machine that is taken for the other kind does not boot.
    static func judged(by pass: () -> Int64?) -> KVMKind {
        for _ in 0..<passesMax {
            guard let nanoseconds = pass() else { return .emulatedRing0 }
            if nanoseconds <= nativeNanosecondsMax { return .hardware }
        }
        return .emulatedRing0
    }

    /// Finds out by timing a short loop in ring 0.
    ///
    /// - Throws: `MachineError` when a machine cannot be made.
    public static func probe(_ system: KVMSystem) throws(MachineError) -> KVMKind {
        let machine = try system.createVirtualMachine()
        let page: Mapping
        do throws(SystemError) { page = try .anonymous(count: pageBytes, what: "a probe page") } catch { throw .system(error) }
        // 16-bit real mode: start: mov ecx, count; loop: dec ecx; jnz loop; out 0xe8, al; jmp start
        let count = loopCount
        let code: [UInt8] = [
            0x66, 0xb9, UInt8(count & 255), UInt8(count >> 8 & 255), UInt8(count >> 16 & 255), 0, 0x66, 0x49, 0x75, 0xfc, 0xe6, 0xe8,
            0xeb, 0xf2,
        ]
        code.withUnsafeBytes { page.bytes.copyMemory(from: $0) }
        try machine.setMemory(slot: 0, at: GuestAddress(0x1000), host: page.base, count: pageBytes)
        let cpu = try machine.createVirtualCPU(0)
        var system = try cpu.get(CKVM_GET_SREGS, kvm_sregs(), "system registers")
        system.cs.base = 0
        system.cs.selector = 0
        try cpu.set(CKVM_SET_SREGS, system, "system registers")
        var registers = kvm_regs()
        registers.rip = 0x1000
        registers.rflags = 2
        try cpu.set(CKVM_SET_REGS, registers, "registers")
        // The first pass also pays for the first entry and for the page's first touch.
        return judged {
            let start = clinux_clock_ns(CLOCK_MONOTONIC)
            while cpu.enter() == -Int(EINTR) {}
            guard Int32(cpu.run.pointee.exit_reason) == KVM_EXIT_IO else { return nil }
            return clinux_clock_ns(CLOCK_MONOTONIC) - start
        }
    }
}
