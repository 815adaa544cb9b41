/// What programs for x86-64 may use of a processor: the levels of the psABI, which images call variants of amd64.
enum ProcessorLevel: Int, Comparable {
    case v1 = 1
    case v2, v3, v4

    /// What a level needs beyond the one below it, by the kernel's names.
    private static let flags: [(level: ProcessorLevel, needed: [String])] = [
        (.v2, ["cx16", "lahf_lm", "popcnt", "sse4_1", "sse4_2", "ssse3"]),
        (.v3, ["abm", "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe", "xsave"]),
        (.v4, ["avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"]),
    ]
    /// The first processor of any host is described within this.
    private static let descriptionBytesMax = 64 << 10

    static func < (left: ProcessorLevel, right: ProcessorLevel) -> Bool { left.rawValue < right.rawValue }

    /// The level a variant needs: the first where none is named; nil for one that is not known.
    init?(variant: String?) {
        switch variant ?? "" {
        case "", "v1": self = .v1
        case "v2": self = .v2
        case "v3": self = .v3
        case "v4": self = .v4
        default: return nil
        }
    }

    /// The highest level for which the text of /proc/cpuinfo names all flags.
    init(description: String) {
        let line = description.split(separator: "\n").first { $0.hasPrefix("flags") } ?? ""
        let words = Set(line.split(whereSeparator: { $0 == " " || $0 == "\t" }))
        var level = ProcessorLevel.v1
        for (next, needed) in Self.flags {
            guard needed.allSatisfy({ words.contains(Substring($0)) }) else { break }
            level = next
        }
        self = level
    }

    /// This host's.
    static var host: ProcessorLevel {
        let bytes = (try? Files.head("/proc/cpuinfo", count: descriptionBytesMax)) ?? []
        return ProcessorLevel(description: String(decoding: bytes, as: UTF8.self))
    }
}
