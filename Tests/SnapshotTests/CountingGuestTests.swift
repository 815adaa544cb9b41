import Foundation
import Linux
import Testing

@testable import AuroraVMM
@testable import Snapshot

/// Checkpoints of a guest in hvm mode whose memory is known, word by word: fast, and possible wherever there is /dev/kvm.
@Suite(
    .serialized, .enabled(if: FileManager.default.isWritableFile(atPath: KVMSystem.path), "/dev/kvm is missing or not permitted"),
    .timeLimit(.minutes(2)))
struct CountingGuestTests {
    private static let seed: UInt64 = {
        let seed = UInt64(ProcessInfo.processInfo.environment["AURORA_TEST_SEED"] ?? "") ?? UInt64.random(in: 1...UInt64.max)
        print("seed \(seed): set AURORA_TEST_SEED to repeat")
        return seed
    }()

    /// Every checkpoint holds the memory of one instant; a machine made of the last one goes on from there, fetching its
    /// memory as it touches it, and its own first epoch has what it changed and nothing else.
    @Test func checkpointsAreExactAndGoOn() async throws {
        let guest = try CountingGuest(seed: Self.seed)
        var model = CountingGuest.Model(seed: Self.seed)
        let backend = MemoryBackend(limits: .init(epochs: 10_000, bytes: 1 << 30))
        let first = try Machine(guest.configuration)
        var last = try await run(first, PipelineConfiguration(), backend, base: nil, &model)
        var counts = [model.count]
        for _ in 0..<2 {
            let record = try #require(backend.epochs.last)
            #expect(record.number == last)
            var configuration = guest.configuration
            configuration.tracksWrites = true
            let state = try MachineState(encoded: record.state.encoded())
            let pages = try BackendPages(backend, last)
            let machine = try Machine(configuration, restoring: state, pages: pages)
            var settings = PipelineConfiguration()
            settings.lastEpoch = last
            last = try await run(machine, settings, backend, base: last, &model)
            counts.append(model.count)
        }
        #expect(counts[0] < counts[1] && counts[1] < counts[2], "\(counts)")
    }

    /// Looks at some checkpoints of a running machine, then ends it; the last epoch.
    private func run(
        _ machine: Machine, _ configuration: PipelineConfiguration, _ backend: MemoryBackend, base: EpochNumber?,
        _ model: inout CountingGuest.Model
    ) async throws -> EpochNumber {
        let witness = try Witness(machine, seed: Self.seed)
        var configuration = configuration
        configuration.inspectStop = { witness.inspect($0) }
        let pipeline = try EpochPipeline(machine, configuration)
        try pipeline.attach(backend, base: base)
        machine.resume()
        for round in 0..<4 {
            let number = try await pipeline.requestCheckpoint()
            #expect(try CountingGuest.Held(backend, number).agrees(&model), "round \(round), \(model.count) writes")
        }
        if base != nil {
            let epochs = pipeline.statistics.epochs
            let written = try #require(epochs.first)
            #expect(written.pages + written.stagedPages <= CountingGuest.dataPages + 64, "\(written)")
        }
        for round in 0..<3 {
            let number = try await witness.next()
            try await pipeline.barrier()
            #expect(try witness.differences(backend, number) == [], "round \(round), epoch \(number)")
            #expect(try CountingGuest.Held(backend, number).agrees(&model), "round \(round), epoch \(number)")
        }
        pipeline.pauseGuest()
        pipeline.setCheckpointsPaused(true)
        try await pipeline.barrier()
        let last = pipeline.lastEpoch
        pipeline.stop()
        machine.stop()
        #expect(try CountingGuest.Held(backend, last).agrees(&model))
        return last
    }
}
