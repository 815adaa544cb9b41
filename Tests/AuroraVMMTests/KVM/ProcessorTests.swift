import CLinux
import Foundation
import Testing

@testable import AuroraVMM

/// What programs of a pv guest see of the processor: exceptions, single steps, 32-bit code, segment bases, ports.
///
/// The cases are the program `Guest/processor.c`'s.
@Suite(.serialized, .enabled(if: GuestKit.isThere, "no real guest can be made here; see the output"), .timeLimit(.minutes(5)))
struct ProcessorTests {
    private func configuration(_ words: [String], _ console: GuestConsole) throws -> MachineConfiguration {
        try GuestKit.get().with(program: "processor").configuration(words, console: console)
    }

    private func wrong(_ console: GuestConsole) -> [String] { console.complaints.filter { !$0.contains("segfault") } }

    @Test(arguments: [false, true]) func programsSeeWhatAProcessorDoes(isStrict: Bool) throws {
        let console = GuestConsole()
        var configuration = try configuration([], console)
        configuration.isStrict = isStrict
        let machine = try Machine(configuration)
        defer { machine.stop() }
        machine.resume()
        let end = try console.wait("end of the cases") { _ in machine.end }
        #expect(end == .powerOff)
        #expect(wrong(console) == [])
        #expect(console.lines.contains("0 failed"))
        #expect(console.lines.filter { $0.hasPrefix("ok ") }.count >= 19)
    }

    /// Debuggers, 32-bit programs and segment bases go on in a new machine, whenever they are saved.
    @Test func whatProgramsSeeStaysAcrossRestores() throws {
        let scratch = try ScratchDirectory()
        let console = GuestConsole()
        let cases = "descriptors,trap_flag,single_steps,breakpoints,int80,program32,segment_bases,frames,ports,irq_work"
        let words = ["rounds=8", "case=,\(cases),"]
        let configuration = try configuration(words, console)
        var machine: Machine? = try Machine(configuration)
        machine?.resume()
        var seen = 0
        while seen < 60 {
            // Each time a case or so further, and at another place of it.
            try console.wait("the next cases") { $0.lines.count > seen + 7 ? true : nil }
            let running = try #require(machine)
            running.pause()
            seen = console.lines.count
            if running.end != nil { break }
            let saved = try SavedMachine(running, in: scratch.path)
            running.stop()
            machine = nil
            machine = try saved.machine(configuration)
            machine?.resume()
        }
        let last = try #require(machine)
        try console.wait("end of the cases") { _ in last.end }
        last.stop()
        #expect(wrong(console) == [])
        #expect(console.lines.contains("0 failed"), "\(console.lines.suffix(5))")
    }

    /// A checkpoint of an earlier version holds a local descriptor table at address 0, which none has asked for.
    @Test func checkpointsOfEarlierVersionsLoseTheTableAtZero() throws {
        let scratch = try ScratchDirectory()
        let console = GuestConsole()
        let configuration = try configuration(["rounds=200", "case=,descriptors,"], console)
        let machine = try Machine(configuration)
        machine.resume()
        try console.wait("the first round") { $0.lines.contains("ok descriptors") ? true : nil }
        machine.pause()
        var state = try SavedMachine(machine, in: scratch.path).state
        machine.stop()
        let table = try #require(MemoryLayout<kvm_sregs>.offset(of: \.ldt))
        let limit = try #require(MemoryLayout<kvm_segment>.offset(of: \.limit))
        let unusable = try #require(MemoryLayout<kvm_segment>.offset(of: \.unusable))
        state.vcpu.systemRegisters.store(UInt32(0xffff), at: table + limit)
        state.vcpu.systemRegisters.store(UInt8(0), at: table + unusable)
        let seen = console.lines.count
        let memory = try state.memory.enumerated().map { try MemoryFile.map(scratch.file("memory.\($0)"), count: $1.count) }
        let again = try Machine(configuration, restoring: state, memory: memory)
        defer { again.stop() }
        again.resume()
        try console.wait("more rounds") { $0.lines.dropFirst(seen).filter { $0 == "ok descriptors" }.count > 2 ? true : nil }
        #expect(wrong(console) == [])
    }
}
