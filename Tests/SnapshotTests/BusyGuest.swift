import Foundation
import Linux
import Synchronization
import Testing

@testable import AuroraVMM
@testable import Snapshot

/// A guest that writes its memory all the time, and checks itself.
final class BusyGuest {
    let console = GuestConsole()
    let machine: Machine
    private let configuration: MachineConfiguration

    init() throws {
        configuration = try GuestKit.get().configuration(["test.busy"], console: console)
        machine = try Machine(configuration)
        machine.resume()
        try console.wait("a working guest") { $0.counters.flatMap { $0["forks"] > 0 ? $0 : nil } }
    }

    /// A machine made of a checkpoint works on.
    func goOn(_ backend: MemoryBackend, _ number: EpochNumber) throws {
        let record = try #require(backend.epochs.first { $0.number == number })
        let memory = try record.state.memory.map { try Mapping.anonymous(count: $0.count, what: "restored memory") }
        var firstPages: [Int] = []
        var next = 0
        for extent in record.state.memory {
            firstPages.append(next)
            next += extent.count / pageBytes
        }
        #expect(
            backend.withPages(at: number) { key, bytes in
                guard key.map == PageKey.memory, let region = firstPages.lastIndex(where: { $0 <= key.page }) else { return }
                (memory[region].base + (key.page - firstPages[region]) * pageBytes)
                    .copyMemory(from: bytes.baseAddress ?? UnsafeRawPointer(memory[region].base), byteCount: pageBytes)
            })
        let before = try #require(console.counters)
        let second = try Machine(configuration, restoring: try MachineState(encoded: record.state.encoded()), memory: memory)
        second.resume()
        defer { second.stop() }
        let after = try console.wait("progress of every worker") { console in
            console.counters.flatMap { now in
                ["registers", "forks", "timers"].allSatisfy { now[$0] > before[$0] + 2 } ? now : nil
            }
        }
        #expect(after["errors"] == 0)
        #expect(console.complaints == [])
    }
}

/// Copies all of memory in the stop of random epochs, to be compared with what the backend makes of them.
///
/// `@unchecked Sendable`: the copy is taken in a stop only when nobody looks at it.
final class Witness: @unchecked Sendable {
    private struct State {
        var generator: SeededGenerator
        var wanted = false
        var taken: EpochNumber?
    }
    private let machine: Machine
    private let copy: Mapping
    private let image: Mapping
    private let state: Mutex<State>

    init(_ machine: Machine, seed: UInt64) throws {
        self.machine = machine
        copy = try .anonymous(count: machine.memory.pageCount * pageBytes, what: "a copy of memory")
        image = try .anonymous(count: machine.memory.pageCount * pageBytes, what: "an image of memory")
        state = Mutex(State(generator: SeededGenerator(seed: seed)))
    }

    func inspect(_ number: EpochNumber) {
        let isDue = state.withLock { state in
            guard state.wanted, state.generator.below(10) == 0 else { return false }
            state.wanted = false
            return true
        }
        guard isDue else { return }
        for region in machine.memory.regions { memcpy(copy.base + region.firstPage * pageBytes, region.mapping.base, region.count) }
        state.withLock { $0.taken = number }
    }

    /// Waits until an epoch was witnessed.
    func next() async throws -> EpochNumber {
        state.withLock {
            $0.taken = nil
            $0.wanted = true
        }
        for _ in 0..<20_000 {
            if let number = state.withLock({ $0.taken }) { return number }
            try await Task.sleep(for: .milliseconds(1))
        }
        throw GuestConsole.TimedOut(what: "epoch", lines: [])
    }

    /// Witnesses an epoch and compares it with what each backend has of it.
    ///
    /// Backends keep the newest epochs only, and this task may have to wait for its turn longer than that: then another epoch
    /// is witnessed.
    func compare(_ pipeline: EpochPipeline, _ backends: MemoryBackend...) async throws -> (number: EpochNumber, differences: [Int]) {
        for _ in 0..<50 {
            let number = try await next()
            try await pipeline.barrier()
            let found = backends.map { differences($0, number) }
            if !found.contains(nil) { return (number, found.flatMap { $0 ?? [] }) }
        }
        throw GuestConsole.TimedOut(what: "epoch that is still kept", lines: [])
    }

    /// The first pages that differ; nil when the epoch is not kept any more.
    private func differences(_ backend: MemoryBackend, _ number: EpochNumber) -> [Int]? {
        memset(image.base, 0, image.count)
        let isKept = backend.withPages(at: number) { key, bytes in
            guard let source = bytes.baseAddress, key.page < machine.memory.pageCount else { return }
            memcpy(image.base + key.page * pageBytes, source, pageBytes)
        }
        guard isKept else { return nil }
        if memcmp(image.base, copy.base, image.count) == 0 { return [] }
        return Array(
            (0..<machine.memory.pageCount).lazy.filter {
                memcmp(self.image.base + $0 * pageBytes, self.copy.base + $0 * pageBytes, pageBytes) != 0
            }.prefix(10))
    }
}

/// Does something before it takes an epoch.
final class TroubledBackend: Backend {
    let name = "trouble"
    private let numbers = Mutex<[EpochNumber]>([])
    private let trouble: @Sendable (EpochNumber) throws(BackendError) -> Void

    init(_ trouble: @escaping @Sendable (EpochNumber) throws(BackendError) -> Void) { self.trouble = trouble }

    var written: [EpochNumber] { numbers.withLock { $0 } }

    func stage(_ pages: PageSet) throws(BackendError) {}

    func write(_ epoch: Epoch, after previous: EpochNumber?) throws(BackendError) {
        try trouble(epoch.number)
        numbers.withLock { $0.append(epoch.number) }
    }

    func flush() throws(BackendError) {}
}
