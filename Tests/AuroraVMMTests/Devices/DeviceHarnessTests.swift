import Testing

@testable import AuroraVMM

/// A few thousand random inputs for every device, so that the fuzzer's harness runs with the tests.
///
/// `make fuzz` does more.
@Suite struct DeviceHarnessTests {
    private static let runs: UInt64 = 1000

    /// A driver that offers all of its memory, again and again.
    @Test(arguments: DeviceHarness.Kind.allCases)
    func noCallLastsLong(kind: DeviceHarness.Kind) throws {
        for (shape, queue) in [(0xe2, 0), (0xe2, 1), (0xe0, 0), (0xe0, 1), (0xe2, 2), (0xe0, 2)] as [(UInt8, UInt8)] {
            // A start, then for each step: what, queue, descriptors, first, and the shape, address and length of each.
            var input: [UInt8] = [1]
            for _ in 0..<8 { input += [4, queue, 3, 0] + (0..<4).flatMap { _ in [shape, 0, 0, 0, 0] } }
            for _ in 0..<8 { input += [9, queue] }
            #expect(try DeviceHarness(kind).run(input) == nil)
        }
    }

    @Test(arguments: DeviceHarness.Kind.allCases)
    func devicesSurviveAnyGuest(kind: DeviceHarness.Kind) throws {
        for seed in 0..<Self.runs {
            var random = SeededGenerator(seed: seed)
            let problem = try DeviceHarness(kind).run(random.bytes(16 + random.below(400)))
            #expect(problem == nil, "\(kind), seed \(seed)")
        }
    }
}
