import Foundation
import Linux
import Synchronization
import Testing

@testable import AuroraVMM

/// Machines that are put back to where they were, in place.
@Suite(.serialized, .enabled(if: GuestKit.isThere, "no real guest can be made here; see the output"))
struct RollbackTests {
    /// A busy guest is rolled back at random moments, sometimes twice, sometimes to a newer checkpoint: it goes on from
    /// there each time, and memory is exactly what it was.
    @Test(.timeLimit(.minutes(5)), arguments: [false, true])
    func randomRollbacks(isStrict: Bool) throws {
        let seed = UInt64(ProcessInfo.processInfo.environment["AURORA_TEST_SEED"] ?? "") ?? UInt64.random(in: 0...UInt64.max)
        print("seed \(seed): set AURORA_TEST_SEED to repeat")
        var generator = SeededGenerator(seed: seed)
        let console = GuestConsole()
        var configuration = try GuestKit.get().configuration(["test.busy"], console: console)
        configuration.isStrict = isStrict
        let machine = try Machine(configuration)
        machine.resume()
        try console.wait("working guest") { $0.counters.flatMap { $0["registers"] > 0 && $0["forks"] > 0 ? $0 : nil } }
        machine.pause()
        try machine.setTracksWrites(true)
        machine.memory.drainDirtyPages { _ in }
        var state = try machine.save()
        var pages = RecordedPages(machine.memory.regions.map(\.mapping))
        var saved = try #require(console.counters)
        for round in 0..<50 {
            machine.resume()
            usleep(UInt32(generator.below(40_000)))
            machine.pause()
            try #require(machine.end == nil, "round \(round): \(machine.end.map { "\($0)" } ?? "")")
            if generator.below(5) == 0 {
                // From now on this is where it goes back to.
                state = try machine.save()
                pages = RecordedPages(machine.memory.regions.map(\.mapping))
                saved = try #require(console.counters)
                try dirtyPages(machine) { _ in }
                continue
            }
            var changed: [Int] = []
            try dirtyPages(machine) { changed.append($0) }
            #expect(changed.count < machine.memory.pageCount / 2, "round \(round): everything counts as written")
            try machine.load(state, replacing: changed, from: pages)
            // What was replaced, and what the load itself writes (the clock), is known to be written.
            var written = Set<Int>()
            try dirtyPages(machine) { written.insert($0) }
            #expect(written.isSuperset(of: changed))
            try expectEqual(machine, pages, written, round)
            #expect(try machine.save().vcpu.registers == state.vcpu.registers, "round \(round)")
            for page in written { machine.memory.markDirty(page: page) }
            let lines = console.lines.count
            machine.resume()
            // The first line after it counts on from the old value.
            let after = try console.wait("round \(round)") { console in
                console.lines[lines...].lazy.compactMap { GuestCounters($0) }.first { $0.tick <= saved.tick + 3 }
            }
            #expect(after["errors"] == 0 && after.tick > 0)
            try console.wait("timers of round \(round)") { console in
                console.counters.flatMap { $0.tick >= after.tick + 3 && $0["timers"] > after["timers"] ? $0 : nil }
            }
        }
        machine.stop()
        #expect(console.complaints == [])
    }

    private func dirtyPages(_ machine: Machine, _ body: (Int) -> Void) throws {
        try machine.harvestDirtyPages()
        machine.memory.drainDirtyPages(body)
    }

    /// Memory is what it was but for the few pages the VMM itself writes: the clock, and random bytes.
    private func expectEqual(_ machine: Machine, _ pages: RecordedPages, _ written: Set<Int>, _ round: Int) throws {
        let different = pages.differences(from: machine.memory.regions.map(\.mapping))
        #expect(different.count <= 6 && written.isSuperset(of: different), "round \(round): pages \(different) differ")
    }

    /// What does not fit is refused and changes nothing; a page that cannot be had ends the machine.
    @Test(.timeLimit(.minutes(10)))
    func refusals() throws {
        let console = GuestConsole()
        let configuration = try GuestKit.get().configuration([], console: console)
        let machine = try Machine(configuration)
        machine.resume()
        try console.wait(tick: 3)
        machine.pause()
        let state = try machine.save()
        let pages = RecordedPages(machine.memory.regions.map(\.mapping))
        machine.resume()
        #expect(throws: MachineError.self) { try machine.load(state, replacing: [], from: pages) }
        machine.pause()
        var other = state
        other.memory[0].count *= 2
        #expect(throws: MachineError.self) { try machine.load(other, replacing: [], from: pages) }
        other = state
        other.mode = .hvm
        #expect(throws: MachineError.self) { try machine.load(other, replacing: [], from: pages) }
        let before = try #require(console.counters)
        machine.resume()
        try console.wait(tick: before.tick + 3)
        machine.pause()
        #expect(throws: MachineError.self) { try machine.load(state, replacing: [machine.memory.pageCount], from: pages) }
        // Where another one can be had it is put back to that, as if nothing had been.
        let all = Array(0..<machine.memory.pageCount)
        let again = RecordedPages(machine.memory.regions.map(\.mapping))
        let now = try machine.save()
        pages.behaviour.withLock { $0.failsAll = true }
        #expect(throws: MachineError.self) { try machine.load(state, replacing: all, from: pages) }
        try machine.load(now, replacing: all, from: again)
        let later = try #require(console.counters)
        machine.resume()
        try console.wait(tick: later.tick + 3)
        machine.pause()
        #expect(throws: MachineError.self) { try machine.load(state, replacing: all, from: pages) }
        machine.resume()
        try console.wait("the end") { _ in machine.end }
        guard case .failed(let reason)? = machine.end else {
            Issue.record("it goes on")
            return
        }
        #expect(reason.contains("rollback failed"))
        machine.stop()
    }
}
