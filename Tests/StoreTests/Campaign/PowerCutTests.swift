import StoreSimulation
import Testing

@testable import Store

/// Power cuts at every write of a run, with every kind of loss: whatever is found must open, scrub clean, and have what was acknowledged.
@Suite struct PowerCutTests {
    struct Case: Sendable, CustomTestStringConvertible {
        var compression: CompressionPolicy
        var flushEvery: Int
        var testDescription: String { "compression \(compression.rawValue), flush after \(flushEvery)" }
    }
    static let cases = [
        Case(compression: .auto, flushEvery: 1), Case(compression: .on, flushEvery: 1), Case(compression: .auto, flushEvery: 3),
        Case(compression: .on, flushEvery: 5),
    ]

    @Test(arguments: cases) func nothingAcknowledgedIsLost(_ which: Case) throws {
        let disk = try CampaignCheck.makeDisk()
        let run = try CampaignRun(on: disk, compression: which.compression, flushEvery: which.flushEvery)
        try run.runAll()
        let seed = UInt64.random(in: 0 ... .max)
        var generator = SeededGenerator(seed: seed)
        let (images, failures) = Self.play(disk.trace, run.model, variants: 10, limit: 5, using: &generator)
        #expect(failures.isEmpty, "seed \(seed)")
        #expect(images >= 1000, "too few images: \(images)")
    }

    /// The campaign finds what it is meant to find: a disk that does not keep what it flushed.
    @Test func aDiskThatLiesAboutFlushesIsFound() throws {
        let disk = try CampaignCheck.makeDisk()
        let run = try CampaignRun(on: disk)
        try run.runAll()
        var generator = SeededGenerator(seed: 1)
        let trace = disk.trace
        let lying = DiskTrace(
            initial: trace.initial,
            events: trace.events.map { event in
                if case .flush = event { .discard(offset: 0, count: 0) } else { event }
            })
        let (_, failures) = Self.play(lying, run.model, variants: 1, limit: 10, using: &generator)
        #expect(failures.count == 10)
    }

    private static func play(
        _ trace: DiskTrace, _ model: CampaignModel, variants: Int, limit: Int, using generator: inout SeededGenerator
    ) -> (images: Int, failures: [String]) {
        var images = 0
        var failures: [String] = []
        trace.forEachCut(variants: variants, using: &generator) { cut, loss, image in
            images += 1
            guard failures.count < limit else { return }
            do {
                let store = try Store.open(SimulatedDisk(image), memory: .alone, indexBytes: 1 << 20)
                let found = try CampaignCheck.compare(store, model, at: cut, thoroughly: images % 4 == 0)
                if !found.isEmpty { failures.append("cut \(cut), \(loss): \(found)") }
            } catch {
                failures.append("cut \(cut), \(loss): \(error)")
            }
        }
        return (images, failures)
    }
}
