import Foundation
import Linux
import Testing

@testable import AuroraVMM
@testable import Snapshot

/// Checkpoints of a guest in hvm mode whose memory is known, word by word: fast, and possible wherever there is /dev/kvm.
@Suite(
    .serialized, .enabled(if: FileManager.default.isWritableFile(atPath: KVMSystem.path), "/dev/kvm is missing or not permitted"),
    .timeLimit(.minutes(10)))
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
        // Checkpoints are made already: the guest is the pipeline's to start.
        for _ in 0..<3 where base != nil { _ = try await pipeline.requestCheckpoint() }
        pipeline.resumeGuest()
        for round in 0..<4 {
            let held = try await self.held(backend) { try await pipeline.requestCheckpoint() }
            #expect(held.agrees(&model), "round \(round), \(held.count) writes")
        }
        if base != nil {
            let epochs = pipeline.statistics.epochs
            let written = try #require(epochs.map { $0.pages + $0.stagedPages }.max())
            #expect(written <= CountingGuest.dataPages + 64, "\(epochs)")
        }
        for round in 0..<3 {
            let (number, differences) = try await witness.compare(pipeline, backend)
            #expect(differences == [], "round \(round), epoch \(number)")
            let held = try await self.held(backend) {
                let number = try await witness.next()
                try await pipeline.barrier()
                return number
            }
            #expect(held.agrees(&model), "round \(round)")
        }
        pipeline.pauseGuest()
        pipeline.setCheckpointsPaused(true)
        try await pipeline.barrier()
        let last = pipeline.lastEpoch
        pipeline.stop()
        machine.stop()
        let held = try #require(CountingGuest.Held(backend, last))
        #expect(held.agrees(&model))
        return last
    }

    /// What an epoch holds that is still kept when its turn comes.
    private func held(_ backend: MemoryBackend, _ next: () async throws -> EpochNumber) async throws -> CountingGuest.Held {
        for _ in 0..<50 {
            if let held = CountingGuest.Held(backend, try await next()) { return held }
        }
        throw GuestConsole.TimedOut(what: "epoch that is still kept", lines: [])
    }

    /// A pipeline that nobody stopped is dropped at any moment of its threads' work: they end, and the machine is let go.
    ///
    /// A thread of it may hold the last reference for a moment; it once freed what it went on to use.
    @Test func aRunningPipelineIsDropped() async throws {
        let guest = try CountingGuest(seed: Self.seed)
        var generator = SeededGenerator(seed: Self.seed)
        let machine = try Machine(guest.configuration)
        machine.resume()
        for _ in 0..<200 {
            weak var dropped: EpochPipeline?
            weak let kept: MemoryBackend?
            do {
                var configuration = PipelineConfiguration()
                configuration.period = .fixed(nanoseconds: 200_000)
                configuration.poolBytes = PagePool.bytesMin
                let pipeline = try EpochPipeline(machine, configuration)
                let backend = MemoryBackend(limits: .init(epochs: 2, bytes: 16 << 20))
                try pipeline.attach(backend)
                if generator.below(2) == 0 { try await pipeline.barrier() }
                usleep(UInt32(generator.below(2000)))
                dropped = pipeline
                kept = backend
            }
            for _ in 0..<20_000 where dropped != nil || kept != nil { usleep(1000) }
            #expect(dropped == nil && kept == nil)
        }
        machine.stop()
    }
}
