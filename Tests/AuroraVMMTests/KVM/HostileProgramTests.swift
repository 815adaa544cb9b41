import Foundation
import Testing

@testable import AuroraVMM

/// Programs of a pv guest that do what none should (`Guest/attack.c`), as nobody: any registers, stacks, bases, flags and frames.
@Suite(.serialized, .enabled(if: GuestKit.isThere, "no real guest can be made here; see the output"), .timeLimit(.minutes(10)))
struct HostileProgramTests {
    private static func seed() -> UInt64 {
        let seed = UInt64(ProcessInfo.processInfo.environment["AURORA_TEST_SEED"] ?? "") ?? UInt64.random(in: 1...UInt64.max)
        print("seed \(seed): set AURORA_TEST_SEED to repeat")
        return seed
    }

    private func boot(_ words: [String], _ console: GuestConsole, isStrict: Bool = false) throws -> Machine {
        var configuration = try GuestKit.get().with(program: "attack").configuration(words, console: console)
        configuration.isStrict = isStrict
        let machine = try Machine(configuration)
        machine.resume()
        return machine
    }

    /// Whatever a program may do on any machine ends the program at most: it is what its kernel has to bear.
    @Test func oddStatesOfAProgramHarmNobodyElse() throws {
        let console = GuestConsole()
        let machine = try boot(["kind=states", "seed=\(Self.seed())", "attempts=400"], console)
        defer { machine.stop() }
        let end = try console.wait("end of the attempts", seconds: 300) { _ in machine.end }
        #expect(end == .powerOff)
        #expect(console.lines.contains("attempts 400, unharmed"), "\(console.lines.suffix(20))")
        #expect(console.complaints.filter { !$0.contains("segfault") } == [])
    }

    /// Kept apart from kernel and shim, a program that attacks them does no more harm than one that does not.
    @Test(arguments: ["states", "kernel", "shim", "ring0"])
    func attacksInStrictIsolationHarmNobodyElse(kind: String) throws {
        let console = GuestConsole()
        let machine = try boot(["kind=\(kind)", "seed=\(Self.seed())", "attempts=200"], console, isStrict: true)
        defer { machine.stop() }
        let end = try console.wait("end of the attempts", seconds: 300) { _ in machine.end }
        #expect(end == .powerOff)
        #expect(console.lines.contains("attempts 200, unharmed"), "\(console.lines.suffix(20))")
        #expect(console.complaints.filter { !$0.contains("segfault") } == [])
    }

    /// What is not kept apart from its kernel may end its guest; the VMM says how it ended, lets itself be stopped, and runs the next.
    @Test(arguments: ["kernel", "shim", "ring0"])
    func attacksOnTheShimEndAtMostTheGuest(kind: String) throws {
        let seed = Self.seed()
        for attempt in 0..<4 {
            let console = GuestConsole()
            let machine = try boot(["kind=\(kind)", "seed=\(seed &+ UInt64(attempt))", "attempts=100"], console)
            // It may hang as well: then it is there to be stopped.
            let end = try? console.wait("end of the guest", seconds: 10) { _ in machine.end }
            if case .failed(let reason) = end { #expect(!reason.isEmpty) }
            machine.pause()
            machine.stop()
        }
        let console = GuestConsole()
        let next = try boot(["kind=states", "seed=1", "attempts=3"], console)
        defer { next.stop() }
        #expect(try console.wait("end of the next guest") { _ in next.end } == .powerOff)
        #expect(console.lines.contains("attempts 3, unharmed"))
    }
}
