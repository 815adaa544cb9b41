import CLinux
import Foundation
import Images
import Synchronization
import Testing

@testable import aurora

/// What the commands for images say.
@Suite struct ImageCommandTests {
    /// A report whose clock the test moves.
    private final class Watched: Sendable {
        let text = Mutex("")
        let time = Atomic<Int64>(0)
        func report(isTerminal: Bool) -> ProgressReport {
            ProgressReport(
                isTerminal: isTerminal, write: { text in self.text.withLock { $0 += text } }, now: { self.time.load(ordering: .relaxed) })
        }
        func said() -> String {
            text.withLock { text in
                defer { text = "" }
                return text
            }
        }
    }

    @Test func plainLinesComeWhenItTakesLong() {
        let watched = Watched()
        let report = watched.report(isTerminal: false)
        report.note(.step("one"))
        watched.time.store(4_000, ordering: .relaxed)
        report.note(.written(1 << 20))
        #expect(watched.said().isEmpty)
        watched.time.store(6_000, ordering: .relaxed)
        report.note(.written(2 << 20))
        #expect(watched.said() == "aurora: one\n")
        report.note(.written(3 << 20))
        #expect(watched.said().isEmpty)
        watched.time.store(40_000, ordering: .relaxed)
        report.note(.written(300 << 20))
        #expect(watched.said() == "aurora: one: 300M after 40 s\n")
        report.note(.step("two"))
        #expect(watched.said() == "aurora: two\n")
        report.finish()
        #expect(watched.said().isEmpty)
    }

    @Test func terminalsSeeItAtOnce() {
        let watched = Watched()
        let report = watched.report(isTerminal: true)
        report.note(.step("one"))
        #expect(watched.said() == "aurora: one\n")
        watched.time.store(3_000, ordering: .relaxed)
        report.note(.written(20 << 20))
        #expect(watched.said() == "\r        20M, 3 s\u{1B}[K")
        report.note(.step("two"))
        #expect(watched.said() == "\r\u{1B}[Kaurora: two\n")
        report.note(.written(0))
        report.finish()
        #expect(watched.said().hasSuffix("\r\u{1B}[K"))
        report.finish()
        #expect(watched.said().isEmpty)
    }

    @Test func missingImagesAreCalledTheSame() throws {
        let command = try Command()
        let wanted =
            "error: No image named nosuch: `aurora image ls` shows what there is, `aurora image build nosuch --packages ...` "
            + "or `aurora image import` makes it\n"
        for arguments in [["rm", "nosuch"], ["inspect", "nosuch"]] {
            let result = try command.run(["image"] + arguments)
            #expect(result.code == 1 && result.error == wanted, "\(arguments)")
        }
    }

    @Test func everythingIsInTheHelp() throws {
        let command = try Command()
        let help = try command.run("image", "--help").output
        for name in ["prepare", "build", "import", "commit", "ls", "inspect", "rm", "prune"] {
            #expect(help.contains("  \(name)"), "\(name)")
        }
        for name in ["prepare", "build", "import", "commit"] {
            #expect(try command.run("image", name, "--help").output.contains("-q, --quiet"), "\(name)")
        }
    }
}

/// The disks of groups are looked into inside of a machine.
@Suite(.enabled(if: Command.obstacle == nil, "guests cannot be run here"), .serialized, .timeLimit(.minutes(10)))
struct DiskCheckTests {
    private func shell(_ script: String, _ argument: String) throws -> (code: Int32, output: String) {
        let (process, pipe) = (Process(), Pipe())
        process.executableURL = URL(filePath: "/bin/sh")
        process.arguments = ["-c", script, "sh", argument]
        process.standardOutput = pipe
        try process.run()
        let output = String(decoding: try pipe.fileHandleForReading.readToEnd() ?? Data(), as: UTF8.self)
        process.waitUntilExit()
        return (process.terminationStatus, output)
    }

    /// A file system that was not unmounted is repaired; one that is none is refused, and the host's e2fsck finds nothing left to do.
    @Test func disksAreCheckedInAMachine() throws {
        let path = FileManager.default.temporaryDirectory.appending(path: "aurora-disk-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: path) }
        let make = #"""
            set -eu
            truncate -s 64M "$1"
            mke2fs -q -F -t ext4 -d /etc/apt "$1"
            debugfs -w -R 'set_inode_field <2> links_count 77' "$1" 2>/dev/null
            """#
        try #require(try shell(make, path).code == 0)
        try #require(try shell("e2fsck -fn \"$1\" >/dev/null 2>&1", path).code != 0)
        try DiskCheckMachine.check(path) { _ in }
        let after = try shell("e2fsck -fn \"$1\" 2>/dev/null && debugfs -R 'ls -p /' \"$1\" 2>/dev/null", path)
        #expect(after.code == 0 && after.output.contains("sources.list"), "\(after.output)")
        try #require(try shell("head -c 67108864 /dev/urandom >\"$1\"", path).code == 0)
        #expect { try DiskCheckMachine.check(path) { _ in } } throws: { "\($0)".contains("cannot be repaired") }
    }
}
