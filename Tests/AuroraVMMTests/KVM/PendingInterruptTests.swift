import CLinux
import Foundation
import Linux
import Testing

@testable import AuroraVMM

/// Interrupts that are under way when the state is taken.
@Suite(.serialized, .enabled(if: GuestKit.isThere, "no real guest can be made here; see the output"))
struct PendingInterruptTests {
    private static let requestRegisters = 0x200

    /// Every device interrupts and the timer expires while the vCPU is parked; then the machine is saved.
    ///
    /// A guest that lost
    /// the timer's interrupt would sleep for good: nothing else wakes an idle one.
    @Test(.timeLimit(.minutes(5)))
    func interruptsOfAParkedProcessorAreKept() throws {
        let scratch = try ScratchDirectory()
        let console = GuestConsole()
        let configuration = try GuestKit.get().configuration([], console: console)
        var machine: Machine? = try Machine(configuration)
        machine?.resume()
        try console.wait(tick: 3)
        for round in 0..<10 {
            let running = try #require(machine)
            running.pause()
            for slot in running.devices.slots { slot.line.trigger() }
            usleep(30_000)  // The guest's own timer is due every 2 ms.
            let saved = try SavedMachine(running, in: scratch.path)
            #expect(Self.pendingVectors(saved.state) >= 1, "round \(round): no interrupt is pending")
            let before = try #require(console.counters)
            running.stop()
            machine = nil
            machine = try saved.machine(configuration)
            machine?.resume()
            let after = try console.wait(tick: before.tick + 3)
            #expect(after["errors"] == 0)
            // The parked time is no part of the guest's.
            #expect(after["mono"] >= before["mono"])
        }
        machine?.stop()
        #expect(console.complaints == [])
    }

    /// The vectors in the APIC's request register.
    private static func pendingVectors(_ state: MachineState) -> Int {
        (0..<8).reduce(0) { count, word in
            count + (state.vcpu.localAPIC.load(requestRegisters + word * 16, as: UInt32.self) ?? 0).nonzeroBitCount
        }
    }
}
