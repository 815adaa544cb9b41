import Testing

@testable import AuroraVMM

/// A few thousand random inputs for every device, so that the fuzzer's harness runs with the tests.
///
/// `make fuzz` does more.
@Suite struct DeviceHarnessTests {
    private static let runs: UInt64 = 1000

    @Test(arguments: DeviceHarness.Kind.allCases)
    func devicesSurviveAnyGuest(kind: DeviceHarness.Kind) throws {
        for seed in 0..<Self.runs {
            var random = SeededGenerator(seed: seed)
            let problem = try DeviceHarness(kind).run(random.bytes(16 + random.below(400)))
            #expect(problem == nil, "\(kind), seed \(seed)")
        }
    }
}
