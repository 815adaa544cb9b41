import Testing

@testable import AuroraVMM

/// In which mode a host's guests run.
@Suite struct KVMKindTests {
    private let short = KVMKind.nativeNanosecondsMax
    private let long = KVMKind.nativeNanosecondsMax * 5

    private func judged(_ times: [Int64?]) -> (kind: KVMKind, passes: Int) {
        var passes = 0
        let kind = KVMKind.judged {
            defer { passes += 1 }
            return passes < times.count ? times[passes] : long
        }
        return (kind, passes)
    }

    /// A crowded host delays most passes.
    @Test func oneUndisturbedPassIsEnough() {
        for delayed in 0..<KVMKind.passesMax {
            let result = judged([Int64?](repeating: 40_000_000, count: delayed) + [short])
            #expect(result.kind == .hardware && result.passes == delayed + 1)
        }
    }

    @Test func anEmulatedLoopIsNeverShort() {
        #expect(judged([]) == (.emulatedRing0, KVMKind.passesMax))
        #expect(judged([long, nil, short]) == (.emulatedRing0, 2))
    }
}
