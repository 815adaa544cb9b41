/// What a scrub or a verification found.
public struct ScrubReport: Hashable, Sendable {
    /// Findings that are kept; more are only counted.
    public static let findingsMax = 1000

    /// Something that is wrong.
    public struct Finding: Hashable, Sendable, CustomStringConvertible {
        /// What, where and why.
        public var damage: StoreError.Damage
        /// Whether it has been made good from a second copy.
        public var isRepaired: Bool
        /// The damage, and whether it is repaired.
        public var description: String { isRepaired ? "\(damage) (repaired)" : "\(damage)" }
    }

    /// What is wrong, at most `findingsMax` of it.
    public var findings: [Finding] = []
    /// How much is wrong.
    public var findingCount = 0
    /// Streams looked through.
    public var streams = 0
    /// Checkpoints looked through.
    public var checkpoints = 0
    /// Pages whose bytes were checked; in a verification, pages whose places were.
    public var pages: UInt64 = 0
    /// Bytes of pages that were read.
    public var bytes: UInt64 = 0

    /// Whether nothing is wrong, or everything wrong has been repaired.
    public var isClean: Bool { findingCount == repairedCount }
    /// Findings made good.
    public var repairedCount = 0

    mutating func add(_ damage: StoreError.Damage, isRepaired: Bool = false) {
        findingCount += 1
        if isRepaired { repairedCount += 1 }
        if findings.count < Self.findingsMax { findings.append(Finding(damage: damage, isRepaired: isRepaired)) }
    }
}
