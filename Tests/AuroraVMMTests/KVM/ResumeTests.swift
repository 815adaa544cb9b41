import Foundation
import Linux
import Testing

@testable import AuroraVMM

/// Guests that are saved and go on elsewhere.
@Suite(.serialized, .enabled(if: GuestKit.isThere, "no real guest can be made here; see the output"))
struct ResumeTests {
    /// A busy guest is saved at random moments, each time the machine is thrown away and a new one goes on: registers,
    /// clocks, timers, processes and disk go on as if nothing had been.
    @Test(.timeLimit(.minutes(5)), arguments: [false, true])
    func generations(isStrict: Bool) throws {
        let kit = try GuestKit.get()
        let scratch = try ScratchDirectory()
        let seed = UInt64(ProcessInfo.processInfo.environment["AURORA_TEST_SEED"] ?? "") ?? UInt64.random(in: 0...UInt64.max)
        print("seed \(seed): set AURORA_TEST_SEED to repeat")
        var generator = SeededGenerator(seed: seed)
        let console = GuestConsole()
        var configuration = kit.configuration(["test.busy"], console: console)
        configuration.isStrict = isStrict
        configuration.blockDevices = [BlockDeviceConfiguration(path: try scratch.disk("disk", bytes: 1 << 20))]
        // The machine is let go before the next one is made: a disk has one user.
        var machine: Machine? = try Machine(configuration)
        machine?.resume()
        try console.wait("working guest") { $0.counters.flatMap { $0["registers"] > 0 && $0["forks"] > 0 && $0["disk"] > 0 ? $0 : nil } }
        for generation in 0..<50 {
            usleep(UInt32(generator.below(60_000)))
            let saved = try save(#require(machine), scratch, "generation \(generation)")
            let before = try #require(console.counters)
            machine = nil
            machine = try saved.machine(configuration)
            machine?.resume()
            // Each counter is a process of its own: on a busy host some ticks may pass before another one has its turn.
            let after = try console.wait("timers of generation \(generation)") { console in
                console.counters.flatMap { $0.tick >= before.tick + 5 && $0["timers"] > before["timers"] ? $0 : nil }
            }
            #expect(after["mono"] > before["mono"])
            #expect(after["errors"] == 0)
        }
        let middle = try #require(console.counters)
        _ = try console.wait("progress of every worker") { console in
            console.counters.flatMap { now in
                ["registers", "forks", "disk", "timers"].allSatisfy { now[$0] > middle[$0] + 2 } ? now : nil
            }
        }
        machine?.stop()
        #expect(console.complaints == [])
    }

    private func save(_ machine: Machine, _ scratch: ScratchDirectory, _ when: String) throws -> SavedMachine {
        machine.pause()
        try #require(machine.end == nil, "\(when): \(machine.end.map { "\($0)" } ?? "")")
        defer { machine.stop() }
        return try SavedMachine(machine, in: scratch.path)
    }
}
