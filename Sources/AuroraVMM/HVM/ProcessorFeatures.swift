/// The CPUID table of an hvm guest: what KVM supports, as a package of one core with one thread.
///
/// KVM answers with the topology of the host processor that was asked, which a guest of one vCPU must not see.
enum ProcessorFeatures {
    private enum Register {
        static let eax = 0
        static let ebx = 1
        static let ecx = 2
        static let edx = 3
    }
    private static let cacheLevelsMax: UInt32 = 8

    /// The table for vCPU 0.
    static func table(from supported: CPUIDTable) -> CPUIDTable {
        var table = supported
        table.update(1, register: Register.ebx, set: 1 << 16, clear: 0xffff_0000)  // APIC 0, one logical processor
        table.update(1, register: Register.ecx, set: 1 << 31 | 1 << 24)  // hypervisor; KVM's APIC timer takes TSC deadlines
        table.update(1, register: Register.edx, clear: 1 << 28)  // no hyper-threading
        for level in 0..<cacheLevelsMax {
            table.update(4, level, register: Register.eax, clear: 0xffff_c000)  // caches shared with nobody (Intel)
            table.update(0x8000_001d, level, register: Register.eax, clear: 0x03ff_c000)  // the same (AMD)
        }
        for leaf: UInt32 in [0xb, 0x1f] {
            for level: UInt32 in 0...1 {
                table.update(leaf, level, register: Register.eax, clear: .max)
                table.update(leaf, level, register: Register.ebx, set: 1, clear: .max)
                table.update(leaf, level, register: Register.edx, clear: .max)  // x2APIC 0
            }
        }
        table.update(0x8000_0008, register: Register.ecx, clear: 0xf0ff)  // one core (AMD)
        table.update(0x8000_001e, register: Register.eax, clear: .max)
        table.update(0x8000_001e, register: Register.ebx, clear: 0xffff)
        table.update(0x8000_001e, register: Register.ecx, clear: 0x7ff)
        return table
    }
}
