import CLinux
import Foundation
import Linux
import Synchronization
import Testing

@testable import AuroraVMM

/// The vCPU thread's stops.
@Suite(.serialized, .enabled(if: GuestKit.isThere, "no real guest can be made here; see the output"), .timeLimit(.minutes(10)))
struct RunnerTests {
    /// One who asks for a pause may be held up between saying so and kicking the vCPU, which has parked meanwhile: the kick
    /// then meets a vCPU that runs again.
    @Test func aKickThatComesTooLateStopsNobody() throws {
        let console = GuestConsole()
        let machine = try Machine(try GuestKit.get().configuration([], console: console))
        defer { machine.stop() }
        machine.resume()
        try console.wait(tick: 3)
        for _ in 0..<10 {
            machine.pause()
            machine.runner.cpu.requestExit()
            machine.resume()
            machine.runner.cpu.requestExit()
            let before = console.counters?.tick ?? 0
            try console.wait(tick: before + 3)
        }
        #expect(console.complaints == [])
    }

    /// Many pause and resume the same machine at once, then it is stopped while one of them is at it.
    @Test func pausesAndAStopAtOnce() throws {
        let console = GuestConsole()
        let machine = try Machine(try GuestKit.get().configuration([], console: console))
        machine.resume()
        try console.wait(tick: 3)
        let isDone = Atomic(false)
        let threads = try (0..<3).map { index in
            try Thread(name: "pauser \(index)") { @Sendable in
                while !isDone.load(ordering: .relaxed) {
                    machine.runner.pause()
                    machine.runner.resume()
                }
            }
        }
        usleep(500_000)
        let before = console.counters?.tick ?? 0
        isDone.store(true, ordering: .relaxed)
        for thread in threads { thread.join() }
        machine.resume()
        try console.wait(tick: before + 3)
        #expect(console.complaints == [])
        for _ in 0..<20 { try Self.stopWhilePausing(console) }
    }

    private static func stopWhilePausing(_ console: GuestConsole) throws {
        let machine = try Machine(try GuestKit.get().configuration([], console: console))
        machine.resume()
        let pauser = try Thread(name: "pauser") { @Sendable in
            for _ in 0..<200 {
                machine.runner.pause()
                machine.runner.resume()
            }
        }
        usleep(2000)
        machine.stop()
        pauser.join()
    }
}
