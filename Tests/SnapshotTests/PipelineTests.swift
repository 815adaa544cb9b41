import Foundation
import Linux
import Synchronization
import Testing

@testable import AuroraVMM
@testable import Snapshot

/// Checkpoints of real guests.
@Suite(.serialized, .enabled(if: GuestKit.isThere, "no real guest can be made here; see the output"), .timeLimit(.minutes(10)))
struct PipelineTests {
    private static let seed: UInt64 = {
        let seed = UInt64(ProcessInfo.processInfo.environment["AURORA_TEST_SEED"] ?? "") ?? UInt64.random(in: 0...UInt64.max)
        print("seed \(seed): set AURORA_TEST_SEED to repeat")
        return seed
    }()

    /// What a checkpoint holds is what memory held in its stop, byte by byte, at random checkpoints of a busy guest; and a
    /// machine made of the last one goes on.
    @Test(arguments: [false, true])
    func checkpointsAreExact(poolIsSmall: Bool) async throws {
        let guest = try BusyGuest()
        let witness = try Witness(guest.machine, seed: PipelineTests.seed)
        var configuration = PipelineConfiguration()
        if poolIsSmall { configuration.poolBytes = PagePool.bytesMin }
        configuration.inspectStop = { witness.inspect($0) }
        let pipeline = try EpochPipeline(guest.machine, configuration)
        let backend = MemoryBackend(limits: .init(epochs: 1000, bytes: 2 << 30))
        try pipeline.attach(backend)
        for round in 0..<8 {
            let (number, differences) = try await witness.compare(pipeline, backend)
            #expect(differences == [], "round \(round), epoch \(number)")
            print("epoch \(number): \(backend.bytes >> 20) MiB kept")
        }
        pipeline.pauseGuest()
        let number = try await pipeline.requestCheckpoint(name: "the last")
        pipeline.stop()
        guest.machine.stop()
        // The clock may have made another one since.
        #expect(backend.epochs.first { $0.number == number }?.name == "the last")
        #expect(pipeline.statistics.count > 8)
        try guest.goOn(backend, number)
    }

    /// A backend attached late gets everything, too, while checkpoints go on.
    @Test func aLateBackendIsWhole() async throws {
        let guest = try BusyGuest()
        let witness = try Witness(guest.machine, seed: PipelineTests.seed)
        var configuration = PipelineConfiguration()
        configuration.inspectStop = { witness.inspect($0) }
        let pipeline = try EpochPipeline(guest.machine, configuration)
        let first = MemoryBackend(limits: .init(epochs: 1000, bytes: 2 << 30))
        let second = MemoryBackend(name: "second", limits: .init(epochs: 1000, bytes: 2 << 30))
        try pipeline.attach(first)
        try await pipeline.barrier()
        try pipeline.attach(second)
        #expect(throws: PipelineError.nameTaken("second")) { try pipeline.attach(MemoryBackend(name: "second")) }
        try await pipeline.requestCheckpoint(on: "second")
        for _ in 0..<3 {
            let (number, differences) = try await witness.compare(pipeline, first, second)
            #expect(differences == [], "epoch \(number)")
        }
        try pipeline.detach("memory")
        let kept = first.epochs.count
        try await pipeline.barrier()
        #expect(first.epochs.count == kept)
        #expect(pipeline.backends.map(\.name) == ["second"])
        pipeline.stop()
        guest.machine.stop()
    }

    /// A slow backend lowers the rate and nothing else.
    @Test func aSlowBackendSlowsCheckpointsOnly() async throws {
        let guest = try BusyGuest()
        let pipeline = try EpochPipeline(guest.machine)
        let slow = TroubledBackend { _ in usleep(40_000) }
        try pipeline.attach(slow)
        try await pipeline.barrier()
        let before = try #require(guest.console.counters).tick
        for _ in 0..<100 {
            #expect(pipeline.backends.allSatisfy { $0.epochsInFlight <= pipeline.configuration.epochsInFlightMax })
            usleep(5000)
        }
        try guest.console.wait(tick: before + 10)
        pipeline.stop()
        guest.machine.stop()
        // Nothing that was closed is lost.
        #expect(slow.written == (1...slow.written.count).map { EpochNumber(UInt64($0)) })
        #expect(pipeline.lastEpoch == slow.written.last)
    }

    /// A failing backend stops the guest or is let go, as was asked; the error names it.
    @Test(arguments: BackendFailurePolicy.allCases)
    func aFailureIsTold(policy: BackendFailurePolicy) async throws {
        let guest = try BusyGuest()
        let events = Mutex<[BackendError]>([])
        var configuration = PipelineConfiguration()
        configuration.failurePolicy = policy
        configuration.report = { if case .backendFailed(let error, _) = $0 { events.withLock { $0.append(error) } } }
        let pipeline = try EpochPipeline(guest.machine, configuration)
        let good = MemoryBackend()
        let bad = TroubledBackend { number throws(BackendError) in
            if number.rawValue >= 5 { throw BackendError(backend: "trouble", SystemError("write", "a disk", errno: .noSpace)) }
        }
        try pipeline.attach(good)
        try pipeline.attach(bad)
        let error = await #expect(throws: PipelineError.self) {
            while true { try await pipeline.requestCheckpoint(on: "trouble") }
        }
        guard case .backend(let reason)? = error else {
            Issue.record("\(String(describing: error))")
            return
        }
        #expect(reason.errno == .noSpace && "\(reason)".hasPrefix("Backend trouble failed: Cannot write a disk"))
        #expect(events.withLock { $0 } == [reason])
        switch policy {
        case .pauseGroup:
            #expect(guest.machine.isPaused)
            try pipeline.detach("trouble")
            try await pipeline.barrier()
            #expect(guest.machine.isPaused)
            pipeline.resumeGuest()
        case .detach:
            #expect(pipeline.backends.map(\.name) == ["memory"])
        }
        let before = try #require(guest.console.counters).tick
        try guest.console.wait(tick: before + 5)
        try await pipeline.barrier()
        pipeline.stop()
        guest.machine.stop()
    }

    /// Nobody waits for ever: not when the guest ends, not when the pipeline does.
    @Test func whoWaitsIsAnswered() async throws {
        let guest = try BusyGuest()
        let pipeline = try EpochPipeline(guest.machine)
        await #expect(throws: PipelineError.noBackend(nil)) { try await pipeline.barrier() }
        try pipeline.attach(MemoryBackend())
        await #expect(throws: PipelineError.noBackend("other")) { try await pipeline.requestCheckpoint(on: "other") }
        try await pipeline.barrier()
        guest.machine.stop()
        await #expect(throws: PipelineError.ended(.stopped)) { while true { try await pipeline.barrier() } }
        pipeline.stop()
        let other = try EpochPipeline(guest.machine)
        other.stop()
        await #expect(throws: PipelineError.self) { try await other.barrier() }
    }

    /// A volume is in the same checkpoint as memory; its base comes with the first.
    @Test func volumesAreInTheCheckpoint() async throws {
        let guest = try BusyGuest()
        var generator = SeededGenerator(seed: PipelineTests.seed)
        let blocks = 700
        let base = ArraySource(generator.bytes(100 * pageBytes))
        let volume = try CheckpointedVolume(
            byteCount: Int64(blocks * pageBytes), base: base, baseBlocks: base.blocks, scratch: try ScratchFile(in: nil))
        var configuration = PipelineConfiguration()
        configuration.participants = [VolumeParticipant(volume, map: 1)]
        configuration.poolBytes = PagePool.bytesMin
        let pipeline = try EpochPipeline(guest.machine, configuration)
        let backend = MemoryBackend(limits: .init(epochs: 1000, bytes: 2 << 30))
        try pipeline.attach(backend)
        var expected = base.bytes + [UInt8](repeating: 0, count: (blocks - base.blocks) * pageBytes)
        for round in 0..<10 {
            for _ in 0..<generator.below(30) {
                let bytes = generator.bytes(512 * (1 + generator.below(16)))
                let offset = generator.below((expected.count - bytes.count) / 512) * 512
                try volume.put(bytes, at: offset)
                expected.replaceSubrange(offset..<offset + bytes.count, with: bytes)
            }
            let number = try await pipeline.requestCheckpoint()
            for block in 0..<blocks {
                let page = backend.page(PageKey(map: 1, page: block), at: number)
                #expect(page.map { $0[...] } == expected[block * pageBytes..<(block + 1) * pageBytes], "round \(round), block \(block)")
            }
        }
        pipeline.stop()
        guest.machine.stop()
    }

    /// Checkpoints on request only, names, and an idle clock.
    @Test func checkpointsOnRequest() async throws {
        let guest = try BusyGuest()
        let pipeline = try EpochPipeline(guest.machine)
        pipeline.setCheckpointsPaused(true)
        let backend = MemoryBackend()
        try pipeline.attach(backend)
        let first = try await pipeline.requestCheckpoint(name: "one")
        async let two = pipeline.requestCheckpoint(name: "two")
        async let three = pipeline.requestCheckpoint(name: "three")
        let numbers = try await [first, two, three]
        #expect(Set(numbers) == [EpochNumber(1), EpochNumber(2), EpochNumber(3)])
        #expect(Set(backend.epochs.compactMap(\.name)) == ["one", "two", "three"])
        usleep(100_000)
        #expect(backend.epochs.count == 3)
        pipeline.setPeriod(.fixed(nanoseconds: 5_000_000))
        pipeline.setCheckpointsPaused(false)
        while backend.epochs.count < 10 { usleep(1000) }
        pipeline.stop()
        guest.machine.stop()
    }
}
