import CLinux
import Foundation
import Testing

@testable import AuroraVMM

/// Kernels of a few functions that ask the shim and the VMM for what there is not.
@Suite(.serialized, .enabled(if: GuestKit.isThere, "no real guest can be made here; see the output"), .timeLimit(.minutes(10)))
struct HostileKernelTests {
    private let scratch: ScratchDirectory

    init() throws {
        scratch = try ScratchDirectory()
        let sources = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Guest")
        let compiler = Process()
        compiler.executableURL = URL(filePath: "/usr/bin/env")
        compiler.arguments =
            [
                "cc", "-std=gnu11", "-Wall", "-Wextra", "-O2", "-ffreestanding", "-fno-pic", "-no-pie", "-mcmodel=kernel", "-mno-red-zone",
                "-mgeneral-regs-only", "-fno-stack-protector", "-fcf-protection=none", "-nostdlib", "-static", "-Wl,--build-id=none",
            ] + ["-Wl,-T,\(sources.path)/hostile.ld", "\(sources.path)/hostile.c", "-o", scratch.file("kernel")]
        compiler.standardError = FileHandle.nullDevice  // The linker warns of a segment that is writable and executable.
        try compiler.run()
        compiler.waitUntilExit()
        try #require(compiler.terminationStatus == 0, "the hostile kernel could not be compiled")
    }

    /// Boots the kernel and waits for its end.
    private func boot(_ what: String, seconds: Double = 180) throws -> (end: MachineEnd, lines: [String]) {
        let console = GuestConsole()
        var configuration = MachineConfiguration(memoryBytes: 64 << 20, kernelPath: scratch.file("kernel"))
        configuration.mode = .pv
        configuration.commandLine = ["test=\(what)"]
        configuration.consoleLog = { console.append($0) }
        let machine = try Machine(configuration)
        defer { machine.stop() }
        machine.resume()
        let end = try console.wait("end of \(what)", seconds: seconds) { _ in machine.end }
        return (end, console.lines)
    }

    /// Another guest of the same process, which a harmed VMM could not run.
    private func expectUnharmed() throws { #expect(try boot("hypercalls").end == .powerOff) }

    /// Each is answered with -ENOSYS (-38) and the guest goes on; the console says once which was asked for.
    @Test func unknownHypercallsAreAnsweredAndNoted() throws {
        let (end, lines) = try boot("hypercalls")
        #expect(end == .powerOff)
        #expect(lines.filter { $0.hasPrefix("answer ") } == Array(repeating: "answer -38", count: 8 * 3 + 3))
        #expect(lines.last == "done")
        let noted = lines.filter { $0.hasSuffix(" is not served") }
        for number in ["4", "42", "63"] { #expect(noted.filter { $0 == "aurora: hypercall \(number) is not served" }.count == 1) }
        // A number beyond the table is kept nowhere: it is noted each time.
        for number in ["64", "1000", "2147483647", "2147483648", "4294967295"] {
            #expect(noted.filter { $0 == "aurora: hypercall \(number) is not served" }.count == 3)
        }
        #expect(noted.count == 3 + 5 * 3)
    }

    @Test func anExitForAnUnknownReasonEndsTheGuestAndNothingElse() throws {
        let (end, lines) = try boot("exit")
        #expect(end == .failed("The PV shim left for reason 99"))
        #expect(lines == ["started"])
        try expectUnharmed()
    }

    @Test func aPortOfNobodyEndsTheGuestAndNothingElse() throws {
        let (end, lines) = try boot("port")
        #expect(end == .failed("The guest used port 0x99"))
        #expect(lines == ["started"])
        try expectUnharmed()
    }

    /// A timer that nothing else helps on arrives, even if it is due while the shim handles an interrupt that it delivers to
    /// nobody.
    @Test func timersArriveBesideMaskedEvents() throws {
        let (end, lines) = try boot("timers")
        #expect(end == .powerOff)
        #expect(lines.last == "all arrived", "\(lines)")
    }
}
