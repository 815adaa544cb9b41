import CLinux
import Foundation
import Linux
import Testing

/// The commands with real guests.
///
/// Each test is a group or two; they share two processors, so they run one after the other.
@Suite(.enabled(if: Command.obstacle == nil, "guests cannot be run here"), .serialized, .timeLimit(.minutes(5)))
struct GuestTests {
    let aurora: Command

    init() throws { aurora = try Command() }

    @Test func helloIsPrinted() throws {
        let result = try aurora.run("run", "--", "/bin/echo", "hello")
        #expect(result.output == "hello\n")
        #expect(result.error == "")
        #expect(result.code == 0)
    }

    private static let exits: [(command: [String], code: Int32)] = [
        (["sh", "-c", "exit 7"], 7), (["sh", "-c", "kill -TERM $$"], 143), (["no-such-command"], 127), (["/etc/passwd"], 126),
    ]

    @Test(arguments: exits)
    func exitCodesPassThrough(_ command: [String], _ code: Int32) throws {
        let result = try aurora.run(["run", "--rm", "--"] + command)
        #expect(result.code == code, "\(result.error)")
        #expect(code < 126 || code > 127 || result.error.hasPrefix("error: "))
        #expect(try aurora.run("ps", "-aq").output.isEmpty)
    }

    @Test func inputIsForwardedWithItsEnd() throws {
        let result = try aurora.run(["run", "--rm", "-i", "--", "cat"], input: "x\n")
        #expect(result.output == "x\n")
        #expect(result.code == 0)
        // Without -i the program has no input, and does not wait for one.
        #expect(try aurora.run(["run", "--rm", "--", "cat"], input: "x\n").output == "")
    }

    @Test func manyBytesGoBothWays() throws {
        let text = String((0..<2_000_000).map { Character(UnicodeScalar(UInt8(97 + $0 * 7 % 26))) })
        let (process, stdin, stdout, _) = try aurora.start(["run", "--rm", "-i", "--", "cat"])
        Thread.detachNewThread {
            try? stdin.fileHandleForWriting.write(contentsOf: Data(text.utf8))
            try? stdin.fileHandleForWriting.close()
        }
        let output = stdout.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        #expect(output.count == text.utf8.count)
        #expect(output == Data(text.utf8))
    }

    @Test func streamsAreApart() throws {
        let result = try aurora.run("run", "--rm", "-e", "A=b c", "-w", "/tmp", "--", "sh", "-c", "echo $A; pwd >&2; exit 3")
        #expect(result.output == "b c\n")
        #expect(result.error == "/tmp\n")
        #expect(result.code == 3)
    }

    @Test func terminalIsOne() throws {
        let result = try aurora.run("run", "--rm", "-t", "--", "sh", "-c", "tty && test -t 0 && test -t 1 && echo yes")
        #expect(result.output.hasPrefix("/dev/pts/"))
        #expect(result.output.hasSuffix("yes\r\n"))
    }

    @Test func detachedGroupLivesAndIsStopped() throws {
        let started = try aurora.run(
            "run", "-d", "--name", "d", "--", "sh", "-c", "echo begin; trap 'echo bye; exit 4' TERM; while :; do sleep 0.1; done")
        #expect(started.output == "d\n")
        #expect(try aurora.run("ps", "-q").output == "d\n")
        #expect(try aurora.run("exec", "d", "--", "sh", "-c", "exit 9").code == 9)
        #expect(try aurora.run(["exec", "-i", "d", "--", "cat"], input: "through\n").output == "through\n")
        #expect(try aurora.run("run", "--name", "d", "--", "true").error.hasPrefix("error: The name d is taken\n"))
        #expect(try aurora.run("rm", "d").code == 1)
        #expect(try aurora.run("stop", "d").code == 0)
        #expect(try aurora.run("logs", "d").output == "begin\nbye\n")
        #expect(try aurora.run("logs", "--tail", "1", "d").output == "bye\n")
        #expect(try aurora.state("d").state == "exited")
        #expect(try aurora.run("rm", "d").code == 0)
        #expect(try aurora.run("ps", "-aq").output == "")
    }

    @Test func signalsReachTheProgram() throws {
        let (process, _, stdout, _) = try aurora.start([
            "run", "--rm", "--", "sh", "-c", "trap 'exit 42' INT; echo ready; while :; do sleep 0.05; done",
        ])
        #expect(try stdout.fileHandleForReading.read(upToCount: 6) == Data("ready\n".utf8))
        process.interrupt()
        process.waitUntilExit()
        #expect(process.terminationStatus == 42)
    }

    @Test func interruptWhileStartingEndsTheGroup() throws {
        let (process, _, _, _) = try aurora.start(["run", "--name", "early", "--", "sleep", "100"])
        while try aurora.run("ps", "-aq").output.isEmpty { usleep(5000) }
        process.interrupt()
        process.waitUntilExit()
        #expect(process.terminationStatus != 0)
        #expect(["failed", "exited"].contains(try aurora.state("early").state))
    }

    @Test func killedVMMIsReported() throws {
        try aurora.run("run", "-d", "--name", "k", "--", "sleep", "1000")
        let process = try #require(try aurora.state("k").process)
        #expect(kill(process, SIGKILL) == 0)
        while try aurora.state("k").state == "running" { usleep(10000) }
        #expect(try aurora.state("k").state == "dead")
        #expect(!FileManager.default.fileExists(atPath: "\(aurora.runtime)/k"))
        #expect(try aurora.run("exec", "k", "--", "true").code == 125)
        #expect(try aurora.run("rm", "k").code == 0)
    }

    @Test func terminatedVMMEndsInOrder() throws {
        let name = String(repeating: "n", count: 63)
        try aurora.run("run", "-d", "--name", name, "--", "sh", "-c", "trap 'echo bye; exit 4' TERM; echo up; while :; do sleep 0.1; done")
        let process = try #require(try aurora.state(name).process)
        #expect(try aurora.state(name).state == "running")
        while try aurora.run("logs", name).output != "up\n" { usleep(10_000) }
        #expect(kill(process, SIGTERM) == 0)
        while try aurora.state(name).state == "running" { usleep(10000) }
        #expect(try aurora.state(name).state == "exited")
        #expect(try aurora.run("logs", name).output == "up\nbye\n")
    }

    @Test func memoryShortageIsTold() throws {
        #expect(try aurora.run("run", "--name", "m", "-m", "128M", "--", "sh", "-c", "head -c 500M /dev/zero | tail").code == 137)
        #expect(try aurora.state("m").warnings.contains { $0.contains("--memory") })
    }

    @Test func publishedPortAnswers() throws {
        let script = "while :; do printf 'from the guest\\n' | timeout 5 sh -c 'cat'; done"
        try aurora.run("run", "-d", "--name", "p", "-p", "0:7777", "--", "sh", "-c", script)
        // Nothing listens in the guest: the connection is refused there and reset here, and the group goes on.
        let entry = try aurora.run("ps", "--format", "json", "p").output
        let port = try #require(entry.firstMatch(of: /"hostPort" : (\d+)/).flatMap { UInt16($0.1) })
        #expect(port != 0)
        let socket = try Socket.beginConnecting(address: 0x7F00_0001, port: port)
        try Socket.setNonBlocking(socket.rawValue, false)
        _ = clinux_socket_timeouts(socket.rawValue, 10000)
        var byte: UInt8 = 0
        #expect(clinux_recv(socket.rawValue, &byte, 1) <= 0)
        #expect(try aurora.state("p").state == "running")
        let taken = try aurora.run("run", "--name", "q", "-p", "\(port):1", "--", "true")
        #expect(taken.code == 125)
        #expect(taken.error.hasPrefix("error: Cannot listen on 127.0.0.1:\(port): Address already in use\n"))
        #expect(try aurora.run("ps", "-aq").output == "p\n")
    }

    @Test func twoGroupsAtOnceAreApart() throws {
        try aurora.run("run", "-d", "--name", "one", "--", "sleep", "1000")
        try aurora.run("run", "-d", "--name", "two", "--", "sleep", "1000")
        try aurora.run("exec", "one", "--", "sh", "-c", "echo 1 > /root/mark")
        #expect(try aurora.run("exec", "two", "--", "cat", "/root/mark").code == 1)
        #expect(try aurora.run("exec", "one", "--", "cat", "/root/mark").output == "1\n")
        #expect(try aurora.run("exec", "two", "--", "cat", "/proc/sys/kernel/hostname").output == "two\n")
        #expect(try aurora.run("rm", "--force", "one", "two").code == 0)
    }

    @Test func volumeKeepsWhatWasWritten() throws {
        let file = "\(aurora.home)/volume.ext4"
        let make = Process()
        make.executableURL = URL(filePath: "/bin/sh")
        make.arguments = ["-c", "truncate -s 32M \(file) && PATH=$PATH:/sbin:/usr/sbin mkfs.ext4 -q -F \(file)"]
        try make.run()
        make.waitUntilExit()
        try #require(make.terminationStatus == 0)
        #expect(try aurora.run("run", "--rm", "--volume", "\(file):/data", "--", "sh", "-c", "echo kept > /data/file").code == 0)
        #expect(try aurora.run("run", "--rm", "--volume", "\(file):/data:ro", "--", "cat", "/data/file").output == "kept\n")
        #expect(try aurora.run("run", "--rm", "--volume", "\(file):/data:ro", "--", "touch", "/data/other").code == 1)
        try filesAreNoVolumesOfCheckpoints(file)
    }

    /// A group that writes to files gets no backend, and what the refusal says to do instead works.
    private func filesAreNoVolumesOfCheckpoints(_ file: String) throws {
        #expect(try aurora.run("run", "-d", "--name", "v", "--volume", "\(file):/data", "--", "sleep", "1000").code == 0)
        for backend in ["store", "memory"] {
            let refused = try aurora.run("attach", "v", "--backend", backend)
            #expect(refused.error.contains("started by run with volumes"), "\(refused.error)")
            #expect(refused.error.contains("start it with aurora persist and the same --volume"), "\(refused.error)")
        }
        #expect(try aurora.run("exec", "v", "--", "sh", "-c", "echo more > /data/more").code == 0)
        #expect(try aurora.run("stop", "v").code == 0)
        let persisted = try aurora.run("persist", "--volume", "\(file):/data", "--", "cat", "/data/file", "/data/more")
        #expect(persisted.output == "kept\nmore\n", "\(persisted.error)")
    }

    @Test func panicAndPowerOffAreTold() throws {
        let panic = try aurora.run(
            "run", "--name", "panic", "--", "sh", "-c", "echo 1 > /proc/sys/kernel/sysrq; echo c > /proc/sysrq-trigger")
        #expect(panic.code == 125)
        #expect(panic.error.contains("Kernel panic - not syncing"))
        #expect(try aurora.state("panic").state == "failed")
        let off = try aurora.run(
            "run", "--name", "off", "--", "sh", "-c", "echo 1 > /proc/sys/kernel/sysrq; echo o > /proc/sysrq-trigger; sleep 9")
        #expect(off.code == 0)
        let reboot = try aurora.run(
            "run", "--name", "reboot", "--", "sh", "-c", "echo 1 > /proc/sys/kernel/sysrq; echo b > /proc/sysrq-trigger; sleep 9")
        #expect(reboot.code == 125)
        #expect(reboot.error.contains("reboot"))
    }

    @Test func objectsAreListed() throws {
        try aurora.run("run", "-d", "--name", "o", "--", "sh", "-c", "sleep 1000 | cat")
        let table = try aurora.run("ps", "--objects", "o").output
        #expect(table.contains("sleep 1000"))
        #expect(table.contains("pipe"))
        let json = try aurora.run("ps", "--objects", "--format", "json", "o").output
        #expect(try JSONSerialization.jsonObject(with: Data(json.utf8)) is [Any])
    }

    @Test func pausedGroupStandsStill() throws {
        try aurora.run("run", "-d", "--name", "s", "--", "sh", "-c", "while :; do echo tick; sleep 0.05; done")
        #expect(try aurora.run("pause", "s").code == 0)
        #expect(try aurora.state("s").state == "paused")
        let before = try aurora.run("logs", "s").output
        usleep(300_000)
        #expect(try aurora.run("logs", "s").output == before)
        #expect(try aurora.run("resume", "s").code == 0)
        while try aurora.run("logs", "s").output.count <= before.count { usleep(10_000) }
    }
}
