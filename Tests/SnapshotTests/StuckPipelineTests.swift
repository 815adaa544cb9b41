import CLinux
import Foundation
import Linux
import Synchronization
import Testing

@testable import AuroraVMM
@testable import Snapshot

/// Pipelines with backends that stall, go or fail at bad moments: nobody waits for ever, and what can go on does.
@Suite(.serialized, .enabled(if: GuestKit.isThere, "no real guest can be made here; see the output"), .timeLimit(.minutes(10)))
struct StuckPipelineTests {
    private func wait(_ what: String, _ condition: () -> Bool) throws {
        for _ in 0..<60_000 {
            if condition() { return }
            usleep(1000)
        }
        throw GuestConsole.TimedOut(what: what, lines: [])
    }

    private func markEverything(_ machine: Machine) {
        for page in 0..<machine.memory.pageCount { machine.memory.markDirty(page: page) }
    }

    private func pipeline(_ guest: BusyGuest, _ change: (inout PipelineConfiguration) -> Void = { _ in }) throws -> EpochPipeline {
        var configuration = PipelineConfiguration()
        configuration.poolBytes = PagePool.bytesMin
        change(&configuration)
        return try EpochPipeline(guest.machine, configuration)
    }

    /// The last backend is let go while it holds all buffers, and another comes: checkpoints are made again.
    @Test func detachedWhileItHoldsAllBuffers() async throws {
        let guest = try BusyGuest()
        let pipeline = try pipeline(guest)
        let gate = Gate()
        try pipeline.attach(gate)
        try await pipeline.barrier()
        pipeline.setCheckpointsPaused(true)
        gate.close()
        markEverything(guest.machine)
        let answered = Mutex<Result<EpochNumber, PipelineError>?>(nil)
        _ = pipeline.ask { result in answered.withLock { $0 = result } }
        try wait("a pipeline without buffers") { pipeline.progress.activity == .waitsForBuffers }
        let detaching = try Thread(name: "detach") { try? pipeline.detach("gate") }
        // Who asked is not left alone, though the backend still stands still.
        try wait("an answer") { answered.withLock { $0 } != nil }
        #expect(answered.withLock { $0 } == .failure(.noBackend(nil)))
        #expect(pipeline.failure == nil)
        gate.open()
        detaching.join()
        let second = MemoryBackend()
        try pipeline.attach(second)
        let number = try await pipeline.requestCheckpoint(name: "again")
        #expect(second.epochs.contains { $0.number == number })
        pipeline.stop()
        #expect(pipeline.progress.activity == .hasEnded)
        guest.machine.stop()
    }

    /// A backend whose call does not come back is given up within the time it was granted: who waits for it is told, and the others go on,
    /// though it keeps the buffers it has.
    @Test func aHungBackendIsGivenUp() async throws {
        let guest = try BusyGuest()
        let events = Mutex<[String]>([])
        let pipeline = try pipeline(guest) { configuration in
            configuration.report = { event in if case .durable(_, "gate") = event { events.withLock { $0.append("durable") } } }
        }
        let (gate, memory) = (Gate(), MemoryBackend(limits: .init(epochs: 4, bytes: 2 << 30)))
        pipeline.setCheckpointsPaused(true)
        try pipeline.attach(gate)
        try pipeline.attach(memory)
        try await pipeline.barrier()
        gate.close()
        markEverything(guest.machine)
        let answered = Mutex<Result<EpochNumber, PipelineError>?>(nil)
        _ = pipeline.ask(on: "gate") { result in answered.withLock { $0 = result } }
        try wait("a pipeline without buffers") { pipeline.progress.activity == .waitsForBuffers }
        try wait("a call that hangs") { gate.isHolding }
        let before = events.withLock { $0.count }
        #expect(throws: PipelineError.self) { try pipeline.detach("gate", withinSeconds: 0.2) }
        #expect(pipeline.backends.map(\.name) == ["memory"])
        // Larger than the pool, again and again.
        for _ in 0..<3 {
            markEverything(guest.machine)
            let number = try await pipeline.requestCheckpoint(on: "memory")
            #expect(memory.epochs.contains { $0.number == number })
        }
        try wait("an answer") { answered.withLock { $0 } != nil }
        #expect(throws: PipelineError.self) { try answered.withLock { $0 }?.get() }
        // It comes back, and nobody hears of it.
        gate.open()
        try wait("the end of the call") { !gate.isHolding }
        try await pipeline.requestCheckpoint(on: "memory")
        #expect(events.withLock { $0.count } == before)
        #expect(pipeline.stop().isEmpty)
        guest.machine.stop()
    }

    /// A pipeline ends in the time it has, whatever its backends do, and says what it has left behind.
    @Test func aPipelineEndsWithoutAHungBackend() async throws {
        let guest = try BusyGuest()
        let pipeline = try pipeline(guest)
        let gate = Gate()
        pipeline.setCheckpointsPaused(true)
        try pipeline.attach(gate)
        try await pipeline.barrier()
        gate.close()
        let answered = Mutex<Result<EpochNumber, PipelineError>?>(nil)
        _ = pipeline.ask { result in answered.withLock { $0 = result } }
        try wait("a call that hangs") { gate.isHolding }
        let left = pipeline.stop(withinSeconds: 3)
        #expect(left == ["the backend gate: it was writing checkpoint 2"], "\(left)")
        #expect(answered.withLock { $0 } == .failure(.lost("gate", .writes(EpochNumber(2)), seconds: 3)))
        #expect(pipeline.stop().isEmpty)
        gate.open()
        guest.machine.stop()
    }

    /// A disk whose contents do not come holds nobody who ends the checkpoints.
    @Test func aPipelineEndsWithoutADiskThatHangs() async throws {
        let guest = try BusyGuest()
        let disk = BrokenDisk()
        let pipeline = try pipeline(guest) { $0.participants = [disk] }
        pipeline.setCheckpointsPaused(true)
        try pipeline.attach(MemoryBackend())
        try await pipeline.barrier()
        let isHeld = Atomic(true)
        disk.whenCollected.withLock { $0 = { while isHeld.load(ordering: .acquiring) { usleep(500) } } }
        _ = pipeline.ask { _ in }
        try wait("a disk that is being read") { pipeline.progress.activity == .reads(3) }
        let left = pipeline.stop(withinSeconds: 2)
        #expect(left == ["the thread that makes checkpoints: what changed on disk 3 is being read"], "\(left)")
        isHeld.store(false, ordering: .releasing)
        try wait("the end of the thread") { pipeline.progress.activity == .hasEnded }
        guest.machine.stop()
    }

    /// A disk that cannot be read out ends the checkpoints with its reason for all who wait, also those whom an epoch had taken.
    @Test func aDiskThatCannotBeRead() async throws {
        let guest = try BusyGuest()
        let disk = BrokenDisk()
        let pipeline = try pipeline(guest) { $0.participants = [disk] }
        try pipeline.attach(MemoryBackend())
        try await pipeline.barrier()
        disk.isBroken.store(true, ordering: .releasing)
        await #expect(throws: PipelineError.volume(3, "it is broken")) {
            while true { try await pipeline.requestCheckpoint(name: "never") }
        }
        #expect(guest.machine.isPaused)
        await #expect(throws: PipelineError.volume(3, "it is broken")) { try await pipeline.barrier() }
        #expect(pipeline.progress.failure != nil)
        pipeline.stop()
        guest.machine.stop()
    }

    /// Far more than the pool holds has changed: the epoch goes ahead in parts and ends, and so does one whose pages come back at
    /// once.
    @Test func anEpochLargerThanThePool() async throws {
        let guest = try BusyGuest()
        let machine = guest.machine
        let pipeline = try pipeline(guest)
        let backend = MemoryBackend(limits: .init(epochs: 4, bytes: 2 << 30))
        try pipeline.attach(backend)
        try await pipeline.barrier()
        for _ in 0..<3 {
            markEverything(machine)
            try await pipeline.barrier()
        }
        let epochs = pipeline.statistics.epochs
        #expect(epochs.contains { $0.stagedPages > PagePool.bytesMin / pageBytes })
        // Everything is written again whenever a round has copied it: no stop finds few enough pages.
        let isOver = Atomic(false)
        let writer = try Thread(name: "writer") {
            while !isOver.load(ordering: .relaxed) { for page in 0..<machine.memory.pageCount { machine.memory.markDirty(page: page) } }
        }
        for _ in 0..<3 { try await pipeline.barrier() }
        isOver.store(true, ordering: .relaxed)
        writer.join()
        let number = try await pipeline.requestCheckpoint(name: "whole")
        pipeline.pauseGuest()
        pipeline.stop()
        guest.machine.stop()
        try guest.goOn(backend, max(number, backend.epochs.last?.number ?? number))
    }

    /// A request is taken back: nobody is told later, and it is known whether an epoch had begun for it.
    @Test func aRequestIsTakenBack() async throws {
        let guest = try BusyGuest()
        let pipeline = try pipeline(guest)
        pipeline.setCheckpointsPaused(true)
        let gate = Gate()
        try pipeline.attach(gate)
        try await pipeline.barrier()
        gate.close()
        let calls = Atomic(0)
        let first = try #require(pipeline.ask { _ in calls.add(1, ordering: .relaxed) })
        try wait("an epoch") { pipeline.lastEpoch == EpochNumber(2) }
        #expect(pipeline.withdraw(first) == .begun(EpochNumber(2)))
        #expect(pipeline.withdraw(first) == .answered)
        let durable = try #require(pipeline.backends.first?.durableStop)
        #expect(pipeline.backends.first?.durable == EpochNumber(1) && durable <= pipeline.progress.now)
        gate.open()
        try await pipeline.barrier()
        #expect(calls.load(ordering: .relaxed) == 0)
        #expect(pipeline.withdraw(12345) == .answered)
        pipeline.stop()
        guest.machine.stop()
    }

    /// A backend with a longer history comes while an epoch is being closed: numbers never go back.
    @Test func numbersNeverGoBack() async throws {
        let guest = try BusyGuest()
        let disk = BrokenDisk()
        let pipeline = try pipeline(guest) { $0.participants = [disk] }
        try pipeline.attach(MemoryBackend())
        try await pipeline.barrier()
        disk.whenCollected.withLock { $0 = { pipeline.advance(to: EpochNumber(1_000_000)) } }
        try await pipeline.barrier()
        let number = try await pipeline.requestCheckpoint()
        #expect(number > EpochNumber(1_000_000))
        pipeline.stop()
        guest.machine.stop()
    }
}

/// A backend that takes nothing while it is closed.
private final class Gate: Backend {
    let name = "gate"
    private let isClosed = Atomic(false)

    func close() { isClosed.store(true, ordering: .releasing) }
    func open() { isClosed.store(false, ordering: .releasing) }
    /// Whether a call waits until it is opened.
    var isHolding: Bool { holding.load(ordering: .acquiring) }
    private let holding = Atomic(false)

    private func pass() {
        while isClosed.load(ordering: .acquiring) {
            holding.store(true, ordering: .releasing)
            usleep(500)
        }
        holding.store(false, ordering: .releasing)
    }

    func stage(_ pages: PageSet) throws(BackendError) { pass() }
    func write(_ epoch: Epoch, after previous: EpochNumber?) throws(BackendError) { pass() }
    func flush() throws(BackendError) { pass() }
}

/// A disk without contents, which may be unreadable.
private final class BrokenDisk: EpochParticipant {
    let map = 3
    let isBroken = Atomic(false)
    let whenCollected = Mutex<(@Sendable () -> Void)?>(nil)

    private struct Broken: Error, CustomStringConvertible { let description = "it is broken" }

    func freeze(_ epoch: EpochNumber) {}

    func collect(_ epoch: EpochNumber, from position: Int, pagesMax: Int, into sink: any PageSink) throws -> Int? {
        whenCollected.withLock { $0.take() }?()
        if isBroken.load(ordering: .acquiring) { throw Broken() }
        return nil
    }

    func stream(from position: Int, pagesMax: Int, into sink: any PageSink) -> Int? { nil }
}
