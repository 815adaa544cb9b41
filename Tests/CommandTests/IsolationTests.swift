import Foundation
import Testing

/// What keeps the programs of a guest apart from their kernel, and that it is said.
@Suite(.enabled(if: Command.obstacle == nil, "guests cannot be run here"), .serialized, .timeLimit(.minutes(10)))
struct IsolationTests {
    let aurora: Command

    init() throws { aurora = try Command() }

    private struct Described: Decodable {
        struct Status: Decodable { let mode: String? }
        struct Isolation: Decodable {
            let kind: String
            let meaning: String
        }
        let status: Status
        let isolation: Isolation?
    }

    private func described(_ name: String) throws -> Described {
        try #require(try JSONDecoder().decode([Described].self, from: Data(try aurora.run("inspect", name).output.utf8)).first)
    }

    @Test func inspectSaysWhatHolds() throws {
        #expect(try aurora.run("run", "-d", "--name", "g", "--", "sleep", "1000").code == 0)
        let group = try described("g")
        let isolation = try #require(group.isolation)
        #expect(isolation.kind == (group.status.mode == "pv" ? "shared" : "hardware"))
        #expect(isolation.meaning.contains("root in its guest") == (group.status.mode == "pv"))
        #expect(try aurora.run("run", "--isolation", "loose", "--", "true").code == 64)
    }

    /// Guest/isolation.c, compiled once and encoded for a way through standard input.
    private static let probe: Result<String, any Error> = Result {
        let source = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "Guest/isolation.c").path
        let output = FileManager.default.temporaryDirectory.appending(path: "aurora-isolation-\(getpid())").path
        defer { try? FileManager.default.removeItem(atPath: output) }
        let compiler = Process()
        compiler.executableURL = URL(filePath: "/usr/bin/env")
        compiler.arguments = ["cc", "-std=gnu11", "-Wall", "-Wextra", "-O2", "-static", "-pthread", source, "-o", output]
        try compiler.run()
        compiler.waitUntilExit()
        try #require(compiler.terminationStatus == 0, "the probe could not be compiled")
        return try Data(contentsOf: URL(filePath: output)).base64EncodedString()
    }

    private func putProbe(into name: String) throws {
        let arguments = ["exec", "-i", name, "--", "sh", "-c", "base64 -d >/tmp/probe && chmod 755 /tmp/probe"]
        let result = try aurora.run(arguments, input: try IsolationTests.probe.get())
        #expect(result.code == 0, "\(result.error)")
    }

    /// How an attempt ends: by the program's own fault, but where that is another one, or none.
    private func wanted(_ line: Substring, isStrict: Bool) -> String {
        if line.hasPrefix("breakpoint ") { return "SIGTRAP" }
        // No address at all is a fault of the stack.
        if line.hasPrefix("stack 0x900000000000:") { return "SIGBUS" }
        // A program may execute the page where `syscall` lands: it is a system call then.
        return isStrict && line.hasPrefix("gate jump 0xffff830000400000:") ? "went through" : "SIGSEGV"
    }

    private func expectApart(_ name: String, _ when: String) throws {
        let ways = try aurora.run("exec", name, "--", "/tmp/probe", "ways")
        #expect(ways.output == "all ways work\n" && ways.code == 0, "\(when): \(ways.output)\(ways.error)")
        let attempts = try aurora.run("exec", name, "--", "/tmp/probe")
        #expect(attempts.code == 0, "\(when): \(attempts.error)")
        let lines = attempts.output.split(separator: "\n")
        #expect(lines.count > 60, "\(when): \(lines.count) attempts")
        let isStrict = try described(name).isolation?.kind == "strict"
        for line in lines {
            #expect(line.hasSuffix(": \(wanted(line, isStrict: isStrict))"), "\(when): \(line)")
        }
    }

    /// Ten addresses of the kernel and ten of the shim read and written by nobody, jumps into the shim, forged monitor calls: the
    /// program's own fault each, before and after kill and restore, rollback, and in a clone.
    @Test func programsAreKeptApartFromTheirKernel() throws {
        let made = try aurora.run("persist", "-d", "--name", "g", "--isolation", "strict", "--", "sleep", "100000")
        #expect(made.code == 0, "\(made.error)")
        let kind = try described("g").isolation?.kind
        #expect(kind == "strict" || kind == "hardware")
        try putProbe(into: "g")
        try expectApart("g", "booted")
        #expect(try aurora.run("checkpoint", "g", "here").code == 0)
        try aurora.killVMM("g")
        let restored = try aurora.run("restore", "g")
        #expect(restored.code == 0, "\(restored.error)")
        #expect(try described("g").isolation?.kind == kind)
        try expectApart("g", "restored")
        #expect(try aurora.run("rollback", "g", "--to", "here").code == 0)
        try expectApart("g", "rolled back")
        #expect(try aurora.run("clone", "g", "c").code == 0)
        #expect(try described("c").isolation?.kind == kind)
        try expectApart("c", "cloned")
        #expect(try aurora.run("exec", "g", "--", "uname", "-s").output == "Linux\n")
    }

    /// In shared mode, what was once a way into ring 0 for any program is a breakpoint, and the ways in and out are the usual ones.
    @Test func monitorCallsAreTheShimsOwn() throws {
        #expect(try aurora.run("run", "-d", "--name", "g", "--", "sleep", "1000").code == 0)
        try putProbe(into: "g")
        let ways = try aurora.run("exec", "g", "--", "/tmp/probe", "ways")
        #expect(!ways.output.contains("system call") && !ways.output.contains("registers"), "\(ways.output)")
        #expect(try aurora.run("exec", "g", "--", "/tmp/probe", "breakpoint").output == "breakpoint 0x0: SIGTRAP\n")
        #expect(try aurora.run("exec", "g", "--", "uname", "-s").output == "Linux\n")
    }
}
