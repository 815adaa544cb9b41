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
            "KVM", "dirty ring", "network device", "network namespaces", "memory", "data directory", "disk", "kernel", "base image",
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
