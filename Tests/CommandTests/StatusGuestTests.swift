import CLinux
import Foundation
import Groups
import Linux
import Synchronization
import Store
import Testing

/// What is written down of a group is whole at any moment, and what is damaged all the same harms nothing else.
@Suite(.enabled(if: Command.obstacle == nil, "guests cannot be run here"), .serialized, .timeLimit(.minutes(10)))
struct StatusGuestTests {
    let aurora: Command

    init() throws { aurora = try Command() }

    private func directory(_ name: String) throws -> GroupDirectory {
        GroupDirectory(name: try GroupName(name), in: DataDirectory(path: aurora.home, runtimePath: aurora.runtime))
    }

    private final class Flag: Sendable { let value = Atomic<Bool>(false) }

    /// Eight clients have the status written all the time, and the process is killed while they do.
    @Test func killedWhileItsStatusIsWritten() throws {
        #expect(try aurora.run("persist", "-d", "--period", "off", "--name", "g", "--", "sleep", "1000").code == 0)
        #expect(try aurora.run("checkpoint", "g").code == 0)
        let directory = try directory("g")
        for round in 0..<5 {
            let isOver = Flag()
            let process = try #require(try aurora.state("g").process)
            let done = DispatchGroup()
            for _ in 0..<8 {
                done.enter()
                Thread.detachNewThread {
                    while !isOver.value.load(ordering: .acquiring) { try? ControlClient(directory).resume() }
                    done.leave()
                }
            }
            usleep(UInt32.random(in: 50_000..<250_000))
            kill(process, SIGKILL)
            isOver.value.store(true, ordering: .releasing)
            done.wait()
            try aurora.waitFor("the death of g") { try aurora.state("g").state == "dead" }
            let restored = try aurora.run("restore", "g")
            #expect(restored.code == 0, "round \(round): \(restored.error)")
        }
        #expect(try FileManager.default.contentsOfDirectory(atPath: directory.path).filter { $0.hasSuffix(".new") }.isEmpty)
    }

    /// A status that cannot be read is neither the group's end nor its history's.
    @Test func damagedStatusOfARunningGroupIsAskedFor() throws {
        #expect(try aurora.run("persist", "-d", "--name", "g", "--", "sleep", "1000").code == 0)
        #expect(try aurora.run("checkpoint", "g").code == 0)
        let directory = try directory("g")
        try Data().write(to: URL(filePath: directory.statusPath))
        #expect(try aurora.state("g").state == "running")
        #expect(try aurora.run("exec", "g", "--", "true").code == 0)
        // Whoever runs and does not answer is unknown, and can be ended; what it was stays.
        let process = try #require(try aurora.state("g").process)
        #expect(GroupLock.holder(directory.lockPath) == process)
        try FileManager.default.removeItem(atPath: directory.controlSocketPath)
        let listed = try aurora.run("ps", "-a")
        #expect(listed.output.contains("unknown"))
        #expect(!(listed.output + listed.error).contains("rm --force"))
        #expect(try aurora.run("kill", "g").code == 0)
        #expect(try aurora.state("g").state == "dead")
        #expect(try aurora.run("restore", "g").code == 0)
        #expect(try aurora.run("rm", "--force", "g").code == 0)
    }

    /// A follower is told that what it followed died, and whether it can go on.
    @Test func followerOfADeadGroupIsTold() throws {
        #expect(try aurora.run("persist", "-d", "--name", "g", "--", "sh", "-c", "echo begun; sleep 1000").code == 0)
        #expect(try aurora.run("checkpoint", "g").code == 0)
        let (process, _, stdout, stderr) = try aurora.start(["logs", "-f", "g"])
        #expect(try stdout.fileHandleForReading.read(upToCount: 6) == Data("begun\n".utf8))
        try aurora.killVMM("g")
        process.waitUntilExit()
        #expect(process.terminationStatus == 75)
        #expect(String(decoding: stderr.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self).contains("aurora restore g"))
    }

    /// With --rm nothing is left of a group whose process was killed, unless it can go on.
    @Test(arguments: [("run", ""), ("persist", "g\n")]) func killedGroupOfRmStaysOnlyIfItCanGoOn(_ command: String, _ left: String) throws {
        let (process, _, stdout, stderr) = try aurora.start([command, "--rm", "--name", "g", "--", "sh", "-c", "echo up; sleep 1000"])
        #expect(try stdout.fileHandleForReading.read(upToCount: 3) == Data("up\n".utf8))
        // What the program says may come before the first backend is attached.
        if command == "persist" { try aurora.waitFor("a checkpoint") { try aurora.run("checkpoint", "g").code == 0 } }
        let machine = try #require(try aurora.state("g").process)
        #expect(kill(machine, SIGKILL) == 0)
        process.waitUntilExit()
        #expect(process.terminationStatus == 125)
        #expect(String(decoding: stderr.fileHandleForReading.readDataToEndOfFile(), as: UTF8.self).contains("was killed, or failed"))
        #expect(try aurora.run("ps", "-aq").output == left)
    }

    /// What is left of a detached group of --rm whose process was killed is collected: at once where it cannot go on, else after a day.
    @Test func killedDetachedGroupOfRmIsCollected() throws {
        for (command, name) in [("run", "r"), ("persist", "p")] {
            #expect(try aurora.run(command, "-d", "--rm", "--name", name, "--", "sleep", "1000").code == 0)
        }
        try aurora.waitFor("a checkpoint") { try aurora.run("checkpoint", "p").code == 0 }
        for name in ["r", "p"] { try aurora.killVMM(name) }
        let first = try aurora.run("gc")
        #expect(first.code == 0 && first.error.contains("removed group r"), "\(first.error)")
        #expect(try aurora.run("ps", "-aq").output == "p\n")
        #expect(try aurora.run("restore", "p").code == 0)
        try aurora.killVMM("p")
        // As if somebody had found it dead two days ago.
        let directory = try directory("p")
        let text = try String(contentsOfFile: directory.statusPath, encoding: .utf8)
        let earlier = Timestamp.format(nanosecondsSince1970: Timestamp.wallClockNanoseconds() - 172_800_000_000_000)
        let aged = text.replacing(/"endedAt" : "[^"]*"/, with: "\"endedAt\" : \"\(earlier)\"")
        try #require(aged != text)
        try aged.write(toFile: directory.statusPath, atomically: true, encoding: .utf8)
        // The start of any other group looks, too.
        #expect(try aurora.run("run", "--rm", "--", "true").code == 0)
        #expect(try aurora.run("ps", "-aq").output == "")
        #expect(throws: (any Error).self) { try aurora.openStore().history("group/p") }
    }

    /// Neither the login's secrets nor the service manager's are in the process that a guest might break into.
    @Test func secretsDoNotReachTheProcess() throws {
        let started = try aurora.run(
            ["AWS_SECRET_ACCESS_KEY=secret", Command.path, "run", "-d", "--name", "g", "--", "sleep", "1000"], program: "/usr/bin/env")
        #expect(started.code == 0)
        let process = try #require(try aurora.state("g").process)
        let environment = String(decoding: try Data(contentsOf: URL(filePath: "/proc/\(process)/environ")), as: UTF8.self)
        #expect(!environment.contains("secret"))
        #expect(environment.contains("AURORA_HOME="))
        // Its sockets are its owner's, whatever the directory lets others do.
        let directory = try directory("g")
        for socket in [directory.controlSocketPath, directory.attachSocketPath, directory.vsockSocketPath] {
            #expect(try FileManager.default.attributesOfItem(atPath: socket)[.posixPermissions] as? Int == 0o600, "\(socket)")
        }
    }
}
