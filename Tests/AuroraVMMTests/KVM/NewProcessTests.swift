import AgentClient
import Foundation
import Linux
import Testing

@testable import AuroraVMM

/// A guest saved by one process and resumed by another: nothing of the machine may live in the VMM alone.
@Suite(.serialized, .enabled(if: GuestKit.isThere && AuroraProgram.path != nil, "no real guest, or no aurora program beside the tests"))
struct NewProcessTests {
    /// Registers, an armed timer, clocks, disk and vsock go on in a process that knows only the files.
    @Test(.timeLimit(.minutes(10)))
    func goesOn() throws {
        let kit = try GuestKit.get()
        let scratch = try ScratchDirectory()
        let program = scratch.file("init")
        try Data(kit.program).write(to: URL(filePath: program))
        let disk = try scratch.disk("disk", bytes: 1 << 20)
        let host = ["--disk", disk, "--vsock", scratch.file("vsock.sock")]
        let kernel = ["--kernel", kit.kernel, "--modules", kit.modules, "--program", program]
        let first = try AuroraProgram.run(
            ["machine", "save", "--directory", scratch.path, "--once", "tick 3 ", "--after", "300"] + host + kernel + [
                "test.busy", "test.alarm=2500",
            ])
        let before = try #require(first.counters, "\(first.output)")
        #expect(before["alarm"] == 0)
        usleep(1_500_000)  // The guest's clock must not see this.

        let second = try AuroraProgram.run(["machine", "resume", "--directory", scratch.path, "--during", "3000"] + host) {
            try VsockTalk.checkClock(scratch.file("vsock.sock"))
        }
        let after = try #require(second.counters, "\(second.output)")
        #expect(after["errors"] == 0)
        #expect(after["mono"] > before["mono"])
        #expect(after["mono"] < before["mono"] + 3_400_000_000, "the clock counted the time between the processes")
        for worker in ["registers", "timers", "forks", "disk"] { #expect(after[worker] > before[worker], "\(worker)") }
        // Late by what a busy guest of one processor may be late, not by the time in which it did not exist.
        #expect(after["alarm"] > 0 && after["alarm"] < 1_000_000_000, "the armed timer: \(after["alarm"])")
        #expect(second.complaints == [])
    }
}

/// A line to the guest's program and its answer, over the Unix socket of a group's vsock.
enum VsockTalk {
    /// Sets the guest's wall clock as the agent does after a restore, and reads both clocks back; the first connection that is
    /// made, right after the machine's load, has to stand.
    static func checkClock(_ path: String) throws {
        let before = try ask(path, "time")
        let now = UInt64(Date().timeIntervalSince1970 * 1e9)
        let after = try ask(path, "settime \(now)")
        #expect(after.monotonic >= before.monotonic)
        #expect(after.real >= now && after.real < now + 1_000_000_000)
    }

    struct NoAnswer: Error { let text: String }

    static func ask(_ path: String, _ line: String) throws -> (monotonic: UInt64, real: UInt64) {
        let socket = FileHandle(fileDescriptor: try connect(path).release(), closeOnDealloc: true)
        try socket.write(contentsOf: Data((line + "\n").utf8))
        let answer = String(decoding: socket.availableData, as: UTF8.self)
        let words = answer.split(whereSeparator: \.isWhitespace).compactMap { UInt64($0) }
        guard words.count == 2 else { throw NoAnswer(text: answer) }
        return (words[0], words[1])
    }

    /// The machine may not be there yet.
    private static func connect(_ path: String) throws -> OwnedDescriptor {
        let deadline = Date().addingTimeInterval(180)
        while true {
            do { return try VsockDialer.connect(path) } catch { if Date() > deadline { throw error } }
            usleep(10_000)
        }
    }
}
