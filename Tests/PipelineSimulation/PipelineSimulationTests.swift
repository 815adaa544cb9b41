import Foundation
import Testing

@testable import Snapshot

/// The pipeline without a machine, without threads and without time: thousands of lives, each decided by its seed.
///
/// AURORA_TEST_SEED is the first seed, AURORA_SIMULATIONS how many there are.
@Suite struct PipelineSimulationTests {
    private static let environment = ProcessInfo.processInfo.environment
    private static let first: UInt64 = {
        let seed = UInt64(environment["AURORA_TEST_SEED"] ?? "") ?? UInt64.random(in: 0...UInt64.max)
        print("simulations from seed \(seed): set AURORA_TEST_SEED to repeat")
        return seed
    }()
    private static let count = Int(environment["AURORA_SIMULATIONS"] ?? "") ?? 10_000
    private static let shares = 4

    /// Each durable epoch is what the guest was in its stop; whoever asks is answered once, and with the truth; what can go on does.
    @Test(arguments: 0..<PipelineSimulationTests.shares)
    func everyLifeIsAGoodOne(share: Int) throws {
        var figures = Simulation.Figures()
        var bad = 0
        for index in stride(from: share, to: PipelineSimulationTests.count, by: PipelineSimulationTests.shares) where bad < 3 {
            let seed = PipelineSimulationTests.first &+ UInt64(index)
            let simulation = try Simulation(seed: seed)
            try simulation.run()
            figures.add(simulation.figures)
            if simulation.complaints.isEmpty { continue }
            bad += 1
            Issue.record("AURORA_TEST_SEED=\(seed) AURORA_SIMULATIONS=1: \(simulation.complaints.joined(separator: "; "))")
        }
        print("share \(share): \(figures)")
        guard PipelineSimulationTests.count >= 1000, bad == 0 else { return }
        // What never happens is not tested.
        #expect(figures.durable > 1000 && figures.successes > 1000 && figures.refusals > 100)
        #expect(figures.failures > 10 && figures.losses > 10 && figures.vainStops > 10 && figures.parts > 10)
    }
}
