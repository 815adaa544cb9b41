import CLinux
import Foundation
import Linux
import Synchronization
import Testing

@testable import AuroraVMM

/// A machine is brought to rest and let go by many, in any order, and by slow devices.
@Suite(.serialized, .enabled(if: GuestKit.isThere, "no real guest can be made here; see the output"), .timeLimit(.minutes(10)))
struct RestTests {
    private func guest(_ words: [String] = [], disk: GatedDisk? = nil, restSecondsMax: Int? = nil) throws -> (Machine, GuestConsole) {
        let console = GuestConsole()
        var configuration = try GuestKit.get().configuration(words, console: console)
        if let disk { configuration.blockDevices = [BlockDeviceConfiguration(backend: disk)] }
        if let restSecondsMax { configuration.restSecondsMax = restSecondsMax }
        let machine = try Machine(configuration)
        machine.resume()
        try console.wait(tick: 3)
        return (machine, console)
    }

    /// Pauses, resumes and holds a machine in a random order.
    private static func disturb(_ machine: Machine, rounds: Int, seed: UInt64, isStopped: Bool = false) {
        var random = SeededGenerator(seed: seed)
        for _ in 0..<rounds {
            switch random.below(4) {
            case 0: machine.pause()
            case 1, 2: machine.resume()
            default:
                guard let resting = try? machine.rest() else { return }
                // One that is being stopped is not paused, and its end is known a moment later.
                if !isStopped { #expect(machine.isPaused) }
                resting.resume()
            }
        }
    }

    /// Two `POST /v1/resume` at once ended the VMM.
    @Test func manyPauseAndResumeAtOnce() throws {
        let (machine, console) = try guest()
        let threads = try (0..<4).map { index in
            try Thread(name: "disturber \(index)") { @Sendable in Self.disturb(machine, rounds: 500, seed: UInt64(index)) }
        }
        for thread in threads { thread.join() }
        machine.pause()
        #expect(machine.isPaused)
        let before = try #require(console.counters).tick
        machine.resume()
        try console.wait(tick: before + 3)
        machine.stop()
        #expect(machine.end == .stopped)
        #expect(console.complaints == [])
    }

    @Test func aStopAmongThemEndsThemAll() throws {
        for round in 0..<8 {
            let (machine, _) = try guest()
            let threads = try (0..<3).map { index in
                try Thread(name: "disturber \(index)") { @Sendable in
                    Self.disturb(machine, rounds: 500, seed: UInt64(round * 10 + index), isStopped: true)
                }
            }
            usleep(UInt32(round * 300))
            machine.stop()
            for thread in threads { thread.join() }
            machine.stop()
            machine.resume()
            #expect(machine.end == .stopped)
            #expect(throws: MachineError.self) { _ = try machine.rest() }
        }
    }

    @Test func aHeldMachineRestsWhateverOthersDo() throws {
        let (machine, console) = try guest()
        defer { machine.stop() }
        let resting = try machine.rest()
        let saved = try resting.save()
        let lines = console.lines.count
        // What would change the guest waits for its end.
        machine.setBalloon(pages: 1000)
        _ = try machine.rest().instructionPointer()
        machine.resume()
        machine.pause()
        machine.resume()
        usleep(50_000)
        #expect(machine.isPaused)
        var again = try resting.save()
        if case .pv(var state) = again.platform, case .pv(let former) = saved.platform {
            (state.guestTime, state.savedAt) = (former.guestTime, former.savedAt)
            again.platform = .pv(state)
        }
        #expect(again.devices == saved.devices && again.vcpu.registers == saved.vcpu.registers && again.platform == saved.platform)
        #expect(console.lines.count == lines)
        resting.resume()
        let before = try #require(console.counters).tick
        try console.wait(tick: before + 3)
    }

    /// Devices come to rest first: a disk's read that takes its time is not part of the guest's stop.
    @Test func theGuestRunsOnWhileASlowDiskComesToRest() throws {
        let disk = GatedDisk(byteCount: 1 << 20)
        let (machine, console) = try guest(["test.busy"], disk: disk)
        defer { machine.stop() }
        try console.wait("work on the disk") { $0.counters.flatMap { $0["disk"] > 0 ? $0 : nil } }
        for _ in 0..<3 {
            disk.isHeld.store(true, ordering: .releasing)
            try console.wait("a read that waits") { _ in disk.isWaiting.load(ordering: .acquiring) ? true : nil }
            let pauser = try Thread(name: "pauser") { @Sendable in machine.pause() }
            let before = try #require(console.counters).tick
            try console.wait(tick: before + 10)
            #expect(!machine.isPaused)
            disk.isHeld.store(false, ordering: .releasing)
            pauser.join()
            #expect(machine.isPaused && machine.end == nil)
            machine.resume()
            try console.wait(tick: before + 20)
        }
        #expect(console.complaints == [])
    }

    /// One that never comes to rest has failed: nobody waits for it for ever, and nobody takes it for one that can be saved.
    @Test func aMachineThatDoesNotComeToRestHasFailed() throws {
        let disk = GatedDisk(byteCount: 1 << 20)
        let (machine, console) = try guest(["test.busy"], disk: disk, restSecondsMax: 1)
        defer { disk.isHeld.store(false, ordering: .releasing) }
        try console.wait("work on the disk") { $0.counters.flatMap { $0["disk"] > 0 ? $0 : nil } }
        disk.isHeld.store(true, ordering: .releasing)
        try console.wait("a read that waits") { _ in disk.isWaiting.load(ordering: .acquiring) ? true : nil }
        machine.pause()
        guard case .failed(let reason) = machine.end else {
            Issue.record("it has not failed: \(String(describing: machine.end))")
            return
        }
        #expect(reason.contains("a disk"), "\(reason)")
        #expect(!machine.isPaused)
        #expect(throws: MachineError.self) { _ = try machine.save() }
        machine.resume()
        machine.pause()
        machine.stop()
    }
}
