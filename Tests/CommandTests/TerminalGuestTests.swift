import CLinux
import Foundation
import Linux
import Testing

/// Programs on terminals, and what of a guest reaches the user's own.
@Suite(.enabled(if: Command.obstacle == nil, "guests cannot be run here"), .serialized, .timeLimit(.minutes(5)))
struct TerminalGuestTests {
    let aurora: Command

    init() throws { aurora = try Command() }

    /// What a guest writes to its console is not the program's stream, and is no steering of ours.
    @Test func consoleDoesNotSteerTheTerminal() throws {
        let script =
            "echo 1 >/proc/sys/kernel/sysrq; printf '\\033]0;owned\\007\\033[31mred\\n' >/dev/console; echo b >/proc/sysrq-trigger; sleep 9"
        let result = try aurora.run("run", "--name", "e", "--", "sh", "-c", script)
        #expect(result.code == 125)
        #expect(result.error.contains("\\x1b[31mred"), "\(result.error)")
        #expect(!result.error.contains("\u{1B}"))
        let listed = try aurora.run("ps", "-a").output
        let inspected = try aurora.run("inspect", "e").output
        #expect(!(listed + inspected).contains("\u{1B}"))
    }

    /// A command line under a terminal of its own, of 50 lines of 133 characters; `script` is of util-linux.
    private func onTerminal(_ arguments: [String]) throws -> CommandResult {
        let words = ([Command.path] + arguments).map { "'\($0)'" }.joined(separator: " ")
        return try aurora.run(["-qec", "stty rows 50 cols 133; exec \(words)", "/dev/null"], program: "/usr/bin/script")
    }

    @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/script"), "script (bsdutils) is missing"))
    func programSeesTheSizeOfTheTerminalAtOnce() throws {
        for _ in 0..<3 {
            #expect(try onTerminal(["run", "--rm", "-t", "--", "stty", "size"]).output.hasSuffix("50 133\r\n"))
        }
        try aurora.run("run", "-d", "--name", "g", "--", "sleep", "1000")
        #expect(try onTerminal(["exec", "-t", "g", "--", "stty", "size"]).output.hasSuffix("50 133\r\n"))
    }

    /// A program that has drawn its screen draws it again for whoever joins, also with a terminal of the very same size.
    @Test(.enabled(if: FileManager.default.isExecutableFile(atPath: "/usr/bin/script"), "script (bsdutils) is missing"))
    func programRedrawsForWhoJoins() throws {
        let script = "trap 'stty size' WINCH; while :; do sleep 0.02; done"
        try aurora.run("run", "-d", "-t", "--name", "v", "--", "bash", "-c", script)
        for _ in 0..<2 {
            let (process, _, stdout, _) = try aurora.start(
                ["-qec", "stty rows 50 cols 133; exec '\(Command.path)' attach v", "/dev/null"], program: "/usr/bin/script")
            defer {
                // Signals may be blocked in what a test starts.
                kill(process.processIdentifier, SIGKILL)
                process.waitUntilExit()
            }
            var seen = Data()
            while !String(decoding: seen, as: UTF8.self).contains("50 133") {
                let bytes = stdout.fileHandleForReading.availableData
                try #require(!bytes.isEmpty, "\(String(decoding: seen, as: UTF8.self))")
                seen += bytes
            }
        }
    }

    @Test func standardStreamsBelongToTheUser() throws {
        let result = try aurora.run("run", "--rm", "-u", "nobody", "--", "sh", "-c", "echo a >/dev/stdout; echo b >/dev/stderr")
        #expect(result.output == "a\n")
        #expect(result.error == "b\n")
        #expect(result.code == 0)
    }

    @Test func stopSignalIsTheGroupsOwn() throws {
        let script = "trap 'echo quit; exit 0' QUIT; trap 'echo term; exit 0' TERM; echo ready; while :; do sleep 0.05; done"
        try aurora.run("run", "-d", "--stop-signal", "SIGQUIT", "--name", "s", "--", "sh", "-c", script)
        try aurora.waitFor("the traps") { try aurora.run("logs", "s").output == "ready\n" }
        #expect(try aurora.run("stop", "-t", "60", "s").code == 0)
        #expect(try aurora.run("logs", "s").output == "ready\nquit\n")
    }

    @Test func argumentsAreBytes() throws {
        // The bytes cannot be in an argument of Foundation's Process: a shell makes them.
        let script =
            "exec \"$0\" run --rm -e X=\"$(printf '\\377')\" -- sh -c 'printf %s \"$0\" \"$X\" | od -An -tx1' \"$(printf 'a\\377\\376b')\""
        let result = try aurora.run(["-c", script, Command.path], program: "/bin/sh")
        #expect(result.output == " 61 ff fe 62 ff\n", "\(result.error)")
    }
}
