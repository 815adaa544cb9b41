import StoreSimulation
import Testing

@testable import Store

@Suite struct ChainPlanTests {
    private func table(_ entries: UInt64, _ level: Int) -> TreeReference {
        TreeReference(
            root: DataReference(location: .zero, checksum: Checksum(low: 0, high: 0)), entryCount: entries, height: 1, level: level)
    }

    /// What a commit makes of a chain, with sizes only.
    private func commit(_ number: UInt64, own: Int, _ chain: [TreeReference]) -> [TreeReference] {
        let plan = ChainPlan(number: number, ownCount: own, chain: chain)
        let merged = chain.prefix(plan.merged).reduce(UInt64(own)) { $0 + $1.entryCount }
        return (merged == 0 ? [] : [table(plan.isBase ? min(merged, 10000) : merged, plan.level)]) + chain.dropFirst(plan.merged)
    }

    @Test func theFirstTableIsABase() {
        #expect(ChainPlan(number: 5, ownCount: 100, chain: []).isBase)
        #expect(ChainPlan(number: 5, ownCount: 100, chain: []).merged == 0)
    }

    @Test func alignedNumbersMergeWhatIsBelow() {
        var chain = [table(10000, TreeReference.baseLevel)]
        for number in UInt64(1)...63 { chain = commit(number, own: 10, chain) }
        #expect(chain.map(\.level) == [0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 63])
        let plan = ChainPlan(number: 64, ownCount: 10, chain: chain)
        #expect(plan.merged == 14 && plan.level == 2)
    }

    @Test func muchAboveTheBaseMakesANewOne() {
        let chain = [table(60, 0), table(100, TreeReference.baseLevel)]
        #expect(ChainPlan(number: 64, ownCount: 1, chain: chain).isBase)
        #expect(!ChainPlan(number: 8, ownCount: 1, chain: chain).isBase)
        #expect(!ChainPlan(number: 64, ownCount: 1, chain: [table(20, 0), table(100, TreeReference.baseLevel)]).isBase)
    }

    /// Whatever numbers come, with rollbacks to any earlier checkpoint: chains stay short and sorted.
    @Test(arguments: 1...10)
    func chainsStayShort(seed: UInt64) {
        var generator = SeededGenerator(seed: seed)
        var chain: [TreeReference] = []
        var kept: [[TreeReference]] = []
        var number: UInt64 = 0
        for _ in 0..<5000 {
            number += Bool.random(using: &generator) ? 1 : .random(in: 1...9, using: &generator)
            chain = commit(number, own: .random(in: 0...20, using: &generator), chain)
            kept.append(chain)
            if Int.random(in: 0..<6, using: &generator) == 0 { chain = kept.randomElement(using: &generator) ?? [] }
            let levels = chain.map(\.level)
            #expect(levels == levels.sorted() && chain.count <= CommitBlock.chainMax, "seed=\(seed) number=\(number) \(levels)")
        }
    }
}
