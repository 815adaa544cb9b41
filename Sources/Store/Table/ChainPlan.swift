/// What a commit does to its chain: the rule of `docs/design/store.md`, "Chains".
struct ChainPlan: Hashable {
    /// Tables of one level that may stand in a chain before they are merged whatever the number: regularly there are seven, twice as many
    /// after a rollback to a checkpoint between two merges.
    static let tablesPerLevelMax = 14
    /// 8^20 is 2^60.
    static let levelMax = 20

    /// How many of the newest tables the new one replaces.
    var merged: Int
    /// The new table's level.
    var level: Int
    /// Whether nothing is left below, so that zero pages need no entry.
    var isBase: Bool { level == TreeReference.baseLevel }

    /// - Parameters:
    ///   - number: the commit's.
    ///   - ownCount: entries the epoch brings.
    ///   - chain: of the checkpoint before, newest first.
    init(number: UInt64, ownCount: Int, chain: [TreeReference]) {
        guard !chain.isEmpty else {
            merged = 0
            level = TreeReference.baseLevel
            return
        }
        var level = number == 0 ? Self.levelMax : min(number.trailingZeroBitCount / 3, Self.levelMax)
        while level < Self.levelMax, chain.count(where: { $0.level == level }) >= Self.tablesPerLevelMax { level += 1 }
        // Levels never fall towards the oldest.
        let merged = chain.prefix { $0.level < level }.count
        let above = chain.filter { $0.level != TreeReference.baseLevel }.reduce(UInt64(clamping: ownCount)) { $0 &+ $1.entryCount }
        let base = chain.last.map { $0.level == TreeReference.baseLevel ? $0.entryCount : 0 } ?? 0
        let isTooLong = chain.count - merged + 1 > CommitBlock.chainMax
        if isTooLong || (level >= 2 && above > base / 2) {
            self.merged = chain.count
            self.level = TreeReference.baseLevel
        } else {
            self.merged = merged
            self.level = level
        }
    }
}
