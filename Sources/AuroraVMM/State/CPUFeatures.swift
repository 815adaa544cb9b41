internal import CLinux

/// The processor's abilities that a guest may rely on, so that a checkpoint is not resumed where they are missing.
///
/// Source: the CPUID instruction in the manuals of Intel and AMD.
public struct CPUFeatures: Codable, Hashable, Sendable {
    /// One register of one CPUID leaf whose bits are features.
    enum Word: Int, CaseIterable {
        case basicC, basicD, extendedB, extendedC, extendedD, moreA, stateComponents, stateInstructions, vendorC, vendorD

        /// Leaf, subleaf, and register: 0 eax … 3 edx.
        var place: (leaf: UInt32, subleaf: UInt32, register: Int) {
            switch self {
            case .basicC: (1, 0, 2)
            case .basicD: (1, 0, 3)
            case .extendedB: (7, 0, 1)
            case .extendedC: (7, 0, 2)
            case .extendedD: (7, 0, 3)
            case .moreA: (7, 1, 0)
            case .stateComponents: (13, 0, 0)
            case .stateInstructions: (13, 1, 0)
            case .vendorC: (0x8000_0001, 0, 2)
            case .vendorD: (0x8000_0001, 0, 3)
            }
        }
    }

    /// The feature words, in the order of `Word`.
    public var words: [UInt32]

    /// What a guest of this mode can see: in pv mode the host's processor itself, in hvm mode the table it was given.
    static func visible(in mode: GuestMode, table: CPUIDTable) -> CPUFeatures {
        mode == .pv ? host : CPUFeatures { table[$0, $1] }
    }

    /// This host's processor.
    static let host = CPUFeatures { leaf, subleaf in
        var registers: [UInt32] = [0, 0, 0, 0]
        return registers.withUnsafeMutableBufferPointer { clinux_cpuid(leaf, subleaf, $0.baseAddress) } == 1 ? registers : nil
    }

    init(_ leaf: (UInt32, UInt32) -> [UInt32]?) {
        // Each leaf is read once: a host that is a guest itself pays an exit for every CPUID instruction.
        var last: (leaf: UInt32, subleaf: UInt32, registers: [UInt32]?)?
        words = Word.allCases.map { word in
            let place = word.place
            let known = last.flatMap { $0.leaf == place.leaf && $0.subleaf == place.subleaf ? $0 : nil }
            let found = known ?? (place.leaf, place.subleaf, leaf(place.leaf, place.subleaf))
            last = found
            return found.registers?[place.register] ?? 0
        }
        // Whether the system has switched XSAVE on is no ability of the processor.
        words[Word.basicC.rawValue] &= ~(1 << 27)
    }

    /// The features that `host` lacks, by name, or by place where nobody named them here.
    func missing(from host: CPUFeatures) -> [String] {
        var names: [String] = []
        for (word, (wanted, offered)) in zip(Word.allCases, zip(words, host.words)) {
            let lacking = wanted & ~offered
            for bit in 0..<32 where lacking >> UInt32(bit) & 1 != 0 { names.append(CPUFeatures.name(word, bit)) }
        }
        return names
    }

    private static func name(_ word: Word, _ bit: Int) -> String {
        if let name = names[word]?[bit] { return name }
        let place = word.place
        return "CPUID 0x\(String(place.leaf, radix: 16)).\(place.subleaf) \(["eax", "ebx", "ecx", "edx"][place.register]) bit \(bit)"
    }

    /// The names of /proc/cpuinfo for the bits that programs choose code by.
    private static let names: [Word: [Int: String]] = [
        .basicC: [
            0: "sse3", 1: "pclmulqdq", 9: "ssse3", 12: "fma", 13: "cx16", 19: "sse4_1", 20: "sse4_2", 22: "movbe", 23: "popcnt",
            24: "tsc_deadline_timer", 25: "aes", 26: "xsave", 28: "avx", 29: "f16c", 30: "rdrand",
        ],
        .basicD: [4: "tsc", 8: "cx8", 15: "cmov", 19: "clflush", 23: "mmx", 24: "fxsr", 25: "sse", 26: "sse2"],
        .extendedB: [
            0: "fsgsbase", 3: "bmi1", 5: "avx2", 8: "bmi2", 9: "erms", 16: "avx512f", 17: "avx512dq", 18: "rdseed", 19: "adx",
            21: "avx512ifma", 23: "clflushopt", 24: "clwb", 28: "avx512cd", 29: "sha_ni", 30: "avx512bw", 31: "avx512vl",
        ],
        .extendedC: [
            1: "avx512vbmi", 6: "avx512_vbmi2", 8: "gfni", 9: "vaes", 10: "vpclmulqdq", 11: "avx512_vnni", 12: "avx512_bitalg",
            14: "avx512_vpopcntdq", 22: "rdpid",
        ],
        .extendedD: [4: "fsrm", 8: "avx512_vp2intersect", 23: "avx512_fp16", 24: "amx_tile", 25: "amx_int8"],
        .moreA: [4: "avx_vnni", 5: "avx512_bf16"],
        .stateComponents: [2: "avx state", 5: "avx-512 state", 17: "amx state"],
        .stateInstructions: [0: "xsaveopt", 1: "xsavec", 3: "xsaves"],
        .vendorC: [0: "lahf_lm", 5: "abm", 6: "sse4a", 8: "3dnowprefetch"],
        .vendorD: [11: "syscall", 20: "nx", 26: "pdpe1gb", 27: "rdtscp", 29: "lm"],
    ]
}
