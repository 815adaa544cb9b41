import CLinux
import Foundation
import Testing

/// What can be said without a guest.
///
/// Needs the built command, no /dev/kvm.
@Suite(.enabled(if: FileManager.default.isExecutableFile(atPath: Command.path), "the command is not built"), .timeLimit(.minutes(10)))
struct UsageTests {
    let aurora: Command

    init() throws { aurora = try Command() }

    @Test(arguments: [
        ["run"], ["run", "--"], ["run", "-m", "10M", "--", "true"], ["run", "-m", "999T", "--", "true"], ["run", "-m", "x", "--", "true"],
        ["run", "--name", "../x", "--", "true"], ["run", "-p", "99999:1", "--", "true"], ["run", "-p", "x", "--", "true"],
        ["run", "-w", "relative", "--", "true"], ["run", "-e", "=x", "--", "true"], ["run", "--nonsense", "--", "true"],
        ["exec", "x"], ["stop"], ["stop", "-t", "-1", "x"], ["kill", "-s", "NOPE", "x"], ["logs", "--tail", "-1", "x"], ["nonsense"],
    ])
    func usageErrorsAre64(_ arguments: [String]) throws {
        let result = try aurora.run(arguments)
        #expect(result.code == 64, "\(arguments): \(result.error)")
        #expect(!result.error.isEmpty)
    }

    /// What begins with a dash is the option's value, and is judged as such.
    @Test(arguments: [
        (["restore", "g", "--at", "-30s"], "There is no store"), (["restore", "g", "--to", "-5m"], "There is no store"),
        (["clone", "g", "h", "--at", "-30s"], "There is no store"), (["rollback", "g", "--to", "-5s"], "no group named g"),
        (["logs", "--tail", "-1", "g"], "--tail must be 0 or more"), (["logs", "-n", "-1", "g"], "--tail must be 0 or more"),
        (["stop", "-t", "-1", "g"], "--time must be 0 to 86400"), (["history", "-n", "-1", "g"], "--limit must not be negative"),
        (["top", "-i", "-1"], "--interval must be"), (["kill", "-s", "-9", "g"], "no signal \"-9\""),
        (["run", "--name", "-x", "--", "true"], "Invalid group name \"-x\""), (["run", "-m", "-1", "--", "true"], "Invalid size \"-1\""),
    ])
    func valuesMayBeginWithADash(_ arguments: [String], _ message: String) throws {
        let result = try aurora.run(arguments)
        #expect(result.code != 0)
        #expect(result.error.contains(message) || result.error.contains("Cannot open"), "\(arguments): \(result.error)")
        #expect(!result.error.contains("Missing value"), "\(arguments): \(result.error)")
    }

    @Test(arguments: [
        ["run", "--nonsense"], ["stop", "-t", "x", "g"], ["kill", "-s", "FOO", "g"], ["run", "-m", "x", "--", "true"], ["logs", "nope"],
    ])
    func errorsHaveOneSpelling(_ arguments: [String]) throws {
        #expect(try aurora.run(arguments).error.hasPrefix("error: "), "\(arguments)")
    }

    @Test func unknownSignalsAreAnsweredWithTheList() throws {
        #expect(try aurora.run("kill", "-s", "FOO", "g").error.contains("HUP INT QUIT"))
        #expect(try aurora.run("run", "--stop-signal", "FOO", "--", "true").error.contains("HUP INT QUIT"))
    }

    @Test func topAsJSONPrintsOnce() throws {
        let result = try aurora.run("top", "--format", "json")
        #expect(result.code == 0)
        #expect(result.output.filter { !$0.isWhitespace } == "[]")
    }

    @Test func topWatchedIsALineALook() throws {
        let (process, _, stdout, _) = try aurora.start(["top", "--format", "json", "--watch", "-i", "0.1"])
        defer {
            // Signals may be blocked in what a test starts.
            kill(process.processIdentifier, SIGKILL)
            process.waitUntilExit()
        }
        var lines = 0
        while lines < 3, let byte = try stdout.fileHandleForReading.read(upToCount: 1), !byte.isEmpty {
            lines += byte == Data("\n".utf8) ? 1 : 0
        }
        #expect(lines == 3)
    }

    @Test func runtimeDirectoryOfOthersIsRefused() throws {
        try FileManager.default.createDirectory(atPath: aurora.runtime, withIntermediateDirectories: true)
        #expect(chmod(aurora.runtime, 0o777) == 0)
        let result = try aurora.run("ps")
        #expect(result.code == 1)
        #expect(result.error.contains("The runtime directory cannot be trusted"), "\(result.error)")
        #expect(result.error.contains("chmod 700"))
        #expect(try aurora.run("doctor").output.contains("fail  runtime directory: The runtime directory cannot be trusted"))
        #expect(chmod(aurora.runtime, 0o755) == 0)
        #expect(try aurora.run("ps").code == 0)
    }

    @Test func whatOlderVersionsLeftOpenIsClosed() throws {
        let path = "\(aurora.home)/launch"
        try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
        #expect(chmod(path, 0o755) == 0)
        #expect(try aurora.run("ps").code == 0)
        #expect(try FileManager.default.attributesOfItem(atPath: path)[.posixPermissions] as? Int == 0o700)
    }

    @Test func longCommandLinesAreRefusedWithTheLimit() throws {
        let result = try aurora.run(
            ["run", "--rm", "--name", "g", "--", "true"] + [String](repeating: String(repeating: "x", count: 1000), count: 1800))
        #expect(result.code == 64)
        #expect(result.error.contains("at most 1048576 are possible"), "\(result.error.prefix(300))")
        #expect(try aurora.run("ps", "-aq").output.isEmpty)
    }

    @Test func unknownGroupsAreNamed() throws {
        for arguments in [["logs", "nope"], ["stop", "nope"], ["kill", "nope"], ["rm", "nope"], ["inspect", "nope"], ["ps", "nope"]] {
            let result = try aurora.run(arguments)
            #expect(result.code == 1, "\(arguments)")
            #expect(result.error.hasPrefix("error: There is no group named nope\n"), "\(arguments): \(result.error)")
        }
        #expect(try aurora.run("exec", "nope", "--", "true").code == 125)
        #expect(try aurora.run("rm", "--force", "nope").code == 0)
    }

    @Test func missingImageFailsBeforeAnythingIsMade() throws {
        let result = try aurora.run("run", "--image", "nope", "--name", "x", "--", "true")
        #expect(result.code == 125)
        #expect(result.error.contains("nope"))
        #expect(try aurora.run("ps", "-aq").output.isEmpty)
    }

    @Test func listingsAreEmptyAtFirst() throws {
        #expect(try aurora.run("ps").output.hasPrefix("NAME"))
        #expect(try aurora.run("ps", "--format", "json").output.filter { !$0.isWhitespace } == "[]")
        #expect(try aurora.run("ps", "-q").output.isEmpty)
    }

    @Test func doctorTellsEveryMatter() throws {
        let result = try aurora.run("doctor")
        for what in [
            "KVM", "isolation in a guest", "dirty ring", "network device", "network namespaces", "memory", "data directory", "disk",
            "kernel",
            "base image",
        ] {
            #expect(result.output.contains(" \(what): "), "\(what)")
        }
        #expect((result.code == 0) == !result.output.contains("\nfail ") || result.output.hasPrefix("fail "))
    }

    @Test func vmmIsNotStartedByHand() throws {
        #expect(try aurora.run("vmm", "--group", "x").code != 0)
    }

    @Test func versionAndHelp() throws {
        #expect(try aurora.run("--version").code == 0)
        #expect(try aurora.run("run", "--help").output.contains("--publish"))
        #expect(try aurora.run("--generate-completion-script", "bash").output.contains("aurora"))
    }
}
