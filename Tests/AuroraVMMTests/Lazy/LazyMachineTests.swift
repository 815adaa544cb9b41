import Foundation
import Linux
import Synchronization
import Testing

@testable import AuroraVMM

/// Real guests whose memory is fetched while they run.
@Suite(
    .serialized, .enabled(if: GuestKit.isThere, "no real guest can be made here; see the output"),
    .enabled(if: LazyKit.isThere, "userfaultfd is not permitted; see the output"))
struct LazyMachineTests {
    private struct Saved {
        let state: MachineState
        let pages: RecordedPages
        let counters: GuestCounters
        let configuration: MachineConfiguration
        let disk: [UInt8]
        let diskPath: String

        /// Puts the disk back to what it was when the state was taken.
        func resetDisk() throws { try Data(disk).write(to: URL(filePath: diskPath)) }
    }

    /// A busy guest's state and memory.
    private func saved(_ console: GuestConsole, _ scratch: ScratchDirectory) throws -> Saved {
        var configuration = try GuestKit.get().configuration(["test.busy"], console: console)
        let diskPath = try scratch.disk("disk", bytes: 1 << 20)
        configuration.blockDevices = [BlockDeviceConfiguration(path: diskPath)]
        let machine = try Machine(configuration)
        machine.resume()
        try console.wait("working guest") { $0.counters.flatMap { $0["registers"] > 0 && $0["forks"] > 0 && $0["disk"] > 0 ? $0 : nil } }
        machine.pause()
        defer { machine.stop() }
        let counters = try #require(console.counters)
        return Saved(
            state: try machine.save(), pages: RecordedPages(machine.memory.regions.map(\.mapping)), counters: counters,
            configuration: configuration, disk: Array(try Data(contentsOf: URL(filePath: diskPath))), diskPath: diskPath)
    }

    private func progress(_ console: GuestConsole, beyond before: GuestCounters) throws {
        let after = try console.wait("timers") { console in
            console.counters.flatMap { $0.tick >= before.tick + 10 && $0["timers"] > before["timers"] + 5 ? $0 : nil }
        }
        #expect(after["errors"] == 0)
    }

    @Test(.timeLimit(.minutes(5)), arguments: [1, 16, 64], [false, true])
    func guestsGoOn(readAhead: Int, background: Bool) throws {
        let console = GuestConsole()
        let scratch = try ScratchDirectory()
        let saved = try saved(console, scratch)
        var policy = LazyPolicy()
        policy.readAheadPages = readAhead
        policy.populatesInBackground = background
        for round in 0..<3 {
            let before = try #require(console.counters)
            try saved.resetDisk()
            // A disk has one user: the first machine goes away before the second is made.
            var machine: Machine? = try Machine(saved.configuration, restoring: saved.state, pages: saved.pages, policy: policy)
            machine?.resume()
            // The console goes back: what the restored guest prints is newer than what was printed by then.
            try console.wait("round \(round)") { console in console.lines.count > 0 && console.counters != before ? true : nil }
            usleep(200_000)
            let (again, whole) = try saveAndStop(try #require(machine), isPartial: !background)
            machine = nil
            try goOn(saved.configuration, again, whole, policy, console)
        }
        #expect(console.complaints == [])
    }

    /// A lazily restored machine can be saved while pages are missing: the rest comes when it is read.
    private func saveAndStop(_ machine: Machine, isPartial: Bool) throws -> (MachineState, RecordedPages) {
        machine.pause()
        defer { machine.stop() }
        let lazy = try #require(machine.memory.lazy)
        #expect(lazy.failure == nil)
        if isPartial { #expect(lazy.statistics.faults > 0 && lazy.presentPages < lazy.pageCount) }
        #expect(machine.end == nil)
        return (try machine.save(), RecordedPages(machine.memory.regions.map(\.mapping)))
    }

    private func goOn(
        _ configuration: MachineConfiguration, _ state: MachineState, _ pages: RecordedPages, _ policy: LazyPolicy, _ console: GuestConsole
    ) throws {
        let machine = try Machine(configuration, restoring: state, pages: pages, policy: policy)
        let before = try #require(console.counters)
        machine.resume()
        try progress(console, beyond: before)
        machine.stop()
    }

    /// A page that cannot be had ends the machine with the reason, wherever it is touched.
    @Test(.timeLimit(.minutes(10)))
    func damagedPagesEndTheMachine() throws {
        let console = GuestConsole()
        let scratch = try ScratchDirectory()
        let saved = try saved(console, scratch)
        let seed = UInt64.random(in: 0...UInt64.max)
        print("seed \(seed)")
        var generator = SeededGenerator(seed: seed)
        for round in 0..<8 {
            saved.pages.behaviour.withLock { $0.failsAll = false }
            try saved.resetDisk()
            let machine = try Machine(saved.configuration, restoring: saved.state, pages: saved.pages)
            machine.resume()
            usleep(UInt32(generator.below(30_000)))
            saved.pages.behaviour.withLock { $0.failsAll = true }
            let deadline = Date().addingTimeInterval(180)
            while machine.end == nil, Date() < deadline { usleep(1000) }
            guard case .failed(let reason)? = machine.end else {
                Issue.record("round \(round): \(machine.end.map { "\($0)" } ?? "it runs on")")
                continue
            }
            #expect(reason.contains("checksum does not match") && reason.contains("page"))
            machine.pause()
            #expect(throws: MachineError.self) { try machine.save() }
            machine.stop()
        }
        saved.pages.behaviour.withLock { $0.failsAll = true }
        #expect(throws: MachineError.self) {
            try Machine(saved.configuration, restoring: saved.state, pages: saved.pages)
        }
    }

    /// A source that does not answer: the machine can be paused, saved, resumed, and, once it answers, stopped.
    @Test(.timeLimit(.minutes(10)))
    func pausesWhileFaultsWait() throws {
        let console = GuestConsole()
        let scratch = try ScratchDirectory()
        let saved = try saved(console, scratch)
        let machine = try Machine(saved.configuration, restoring: saved.state, pages: saved.pages)
        machine.resume()
        saved.pages.behaviour.withLock { $0.isHeld = true }
        let deadline = Date().addingTimeInterval(180)
        while saved.pages.behaviour.withLock({ $0.waiting == 0 }), Date() < deadline { usleep(500) }
        #expect(saved.pages.behaviour.withLock { $0.waiting } > 0)
        // A device may be waiting as well: it must be able to finish before everything is at rest.
        let release = try Thread(name: "release") { @Sendable in
            usleep(50_000)
            saved.pages.behaviour.withLock { $0.isHeld = false }
        }
        machine.pause()
        _ = try machine.save()
        release.join()
        let before = try #require(console.counters)
        machine.resume()
        try progress(console, beyond: before)
        saved.pages.behaviour.withLock { $0.failsAll = true }
        machine.stop()
        #expect(console.complaints == [])
    }
}
