import CLinux
import Foundation
import Linux
import Testing

@testable import AuroraVMM

/// How a machine ends, and that a hostile guest does not end the VMM.
@Suite(.serialized, .enabled(if: GuestKit.isThere, "no real guest can be made here; see the output"))
struct MachineEndTests {
    private func end(of words: [String], change: (Machine) -> Void = { _ in }) throws -> (end: MachineEnd, console: GuestConsole) {
        let console = GuestConsole()
        let machine = try Machine(try GuestKit.get().configuration(words, console: console))
        defer { machine.stop() }
        machine.resume()
        return (try console.wait("end") { _ in machine.end }, console)
    }

    @Test(.timeLimit(.minutes(10)))
    func powerOff() throws { #expect(try end(of: ["test.end=poweroff"]).end == .powerOff) }

    @Test(.timeLimit(.minutes(10)))
    func reboot() throws { #expect(try end(of: ["test.end=reboot"]).end == .reboot) }

    @Test(.timeLimit(.minutes(10)))
    func panicsAreToldWithTheConsole() throws {
        guard case .panic(let tail) = try end(of: ["test.end=panic"]).end else {
            Issue.record("not reported as a panic")
            return
        }
        #expect(tail.contains { $0.contains("sysrq triggered crash") || $0.contains("Kernel panic") }, "\(tail)")
    }

    @Test(.timeLimit(.minutes(10)))
    func theEndOfTheFirstProgramIsAPanic() throws {
        guard case .panic(let tail) = try end(of: ["test.end=exit"]).end else {
            Issue.record("not reported as a panic")
            return
        }
        #expect(tail.contains { $0.contains("Attempted to kill init") }, "\(tail)")
    }

    /// A page table that leads nowhere: the processor cannot even reach its interrupt table.
    @Test(.timeLimit(.minutes(10)))
    func tripleFaultsAreTold() throws {
        let console = GuestConsole()
        let machine = try Machine(try GuestKit.get().configuration([], console: console))
        defer { machine.stop() }
        machine.pause()
        let saved = try machine.save()
        var state = saved
        // sregs: cr3 follows eight segments of 24 bytes, two tables of 16, cr0 and cr2.
        let cr3 = 8 * 24 + 2 * 16 + 2 * 8
        #expect(state.vcpu.systemRegisters.load(cr3, as: UInt64.self) != 0)
        state.vcpu.systemRegisters.store(UInt64(0x7000), at: cr3)
        try machine.runner.cpu.load(state.vcpu, keepsTimeStampCounter: false)
        machine.resume()
        let end = try console.wait("end") { _ in machine.end }
        switch end {
        case .tripleFault, .failed: break
        default: Issue.record("ended as \(end)")
        }
    }

    /// Accesses of any size anywhere in the device windows, of devices that drivers use at the same time.
    @Test(.timeLimit(.minutes(10)))
    func wildAccessesToDevicesHarmNobody() throws {
        let scratch = try ScratchDirectory()
        let console = GuestConsole()
        var configuration = try GuestKit.get().configuration(["test.busy", "test.touch", "iomem=relaxed"], console: console)
        configuration.blockDevices = [BlockDeviceConfiguration(path: try scratch.disk("disk", bytes: 1 << 20))]
        let machine = try Machine(configuration)
        defer { machine.stop() }
        machine.resume()
        let line = try console.wait("touching") { console in
            console.lines.first { $0.hasPrefix("touched") } ?? machine.end.map { "\($0)" }
        }
        #expect(line == "touched", "\(line)")
        try console.wait(tick: (console.counters?.tick ?? 0) + 5)
        machine.pause()
        _ = try machine.save()
    }

    /// What the guest says in the page it shares with the VMM is junk: the machine notes it, or ends, and no more.
    @Test(arguments: 0..<40)
    func junkInTheShimsParameters(seed: Int) throws {
        var generator = SeededGenerator(seed: UInt64(seed))
        let console = ConsoleLog()
        let platform = try PVPlatform(memoryBytes: 64 << 20, console: console)
        let memory = GuestMemory(regions: try platform.memoryRegions)
        let system = try KVMSystem()
        let machine = try system.createVirtualMachine()
        try machine.createInterruptController()
        let cpu = try machine.createVirtualCPU(0)
        let image = try ShimImage()
        let parameters = ShimImage.offset(image.params)
        for _ in 0..<200 {
            let bytes = generator.bytes(256)
            try memory.write(GuestAddress(ShimLayout.slotAddress.rawValue + UInt64(parameters)), bytes)
            let reason = UInt64(generator.below(8))
            try memory.store(reason, at: GuestAddress(ShimLayout.slotAddress.rawValue + UInt64(parameters + ShimLayout.paramExitReason)))
            cpu.run.pointee.io.port = generator.below(4) == 0 ? UInt16(truncatingIfNeeded: generator.next()) : ShimLayout.exitPort
            _ = platform.handlePort(cpu, memory: memory)
            platform.setClock(
                GuestClock(tscKilohertz: generator.next() >> 32, tsc: generator.next(), systemTime: generator.next()), memory: memory)
        }
        #expect(console.tail.utf8.count <= ConsoleLog.tailBytesMax * 2)
    }

    @Test
    func memoryHasLimits() throws {
        let kit = try GuestKit.get()
        for (bytes, word) in [(1 << 20, "too few"), (63 << 20, "too few"), (1 << 50, "more than this host")] {
            var configuration = kit.configuration([], console: GuestConsole())
            configuration.memoryBytes = bytes
            let error = #expect(throws: MachineError.self) { _ = try Machine(configuration) }
            #expect("\(error.map { "\($0)" } ?? "")".contains(word))
        }
    }
}
