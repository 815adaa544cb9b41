import Foundation
import Testing

/// A file system of its own, whose writes can be held up for any time, as by a disk that no longer answers: it is frozen
/// (`FIFREEZE`), and whoever writes or flushes waits in the kernel until it is thawed.
private final class HangingFileSystem {
    private let holder = Process()
    private let input = Pipe()
    private let output = Pipe()
    /// As every process sees it: the file system is mounted for one alone, and goes with it.
    let path: String

    /// Thaws it also when this process has gone: its input ends then.
    private static let script = """
        truncate -s 1G "$1.disk" && mkfs.ext4 -q -F "$1.disk" && mount -o loop "$1.disk" "$1" && echo mounted || exit 1
        while read -r word; do
          case "$word" in freeze) fsfreeze -f "$1" && echo frozen;; thaw) fsfreeze -u "$1" && echo thawed;; esac
        done
        fsfreeze -u "$1" 2>/dev/null; umount -l "$1"; rm -f "$1.disk"
        """

    /// - Throws: when nothing can be mounted here.
    init(at place: String) throws {
        try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
        holder.executableURL = URL(filePath: "/usr/bin/unshare")
        holder.arguments = ["--mount", "sh", "-c", Self.script, "sh", place]
        holder.standardInput = input
        holder.standardOutput = output
        holder.standardError = FileHandle.nullDevice
        try holder.run()
        path = "/proc/\(holder.processIdentifier)/root\(place)"
        guard answer() == "mounted\n" else { throw CocoaError(.fileWriteNoPermission) }
    }

    deinit {
        try? input.fileHandleForWriting.close()
        holder.waitUntilExit()
    }

    private func answer() -> String { String(decoding: output.fileHandleForReading.availableData, as: UTF8.self) }

    private func tell(_ word: String, _ expected: String) throws {
        try input.fileHandleForWriting.write(contentsOf: Data("\(word)\n".utf8))
        try #require(answer() == "\(expected)\n")
    }

    private var isFrozen = false

    func freeze() throws {
        try tell("freeze", "frozen")
        isFrozen = true
    }

    /// Does nothing where nothing is frozen.
    func thaw() throws {
        guard isFrozen else { return }
        isFrozen = false
        try tell("thaw", "thawed")
    }
}

/// Groups whose store lies on a disk that no longer answers: everybody is told within the time they granted, and the group goes on, or
/// ends.
@Suite(.enabled(if: Command.obstacle == nil, "guests cannot be run here"), .serialized, .timeLimit(.minutes(10)))
struct HungDiskTests {
    let aurora: Command

    init() throws { aurora = try Command() }

    private func makeFileSystem() throws -> HangingFileSystem? {
        do { return try HangingFileSystem(at: "\(aurora.home)/hanging") } catch {
            print("SKIPPED: no file system can be mounted and frozen here (root, a loop device): \(error)")
            return nil
        }
    }

    private func lines(_ name: String) throws -> Int { try aurora.run("logs", name).output.split(separator: "\n").count }

    private func goesOn(_ what: String) throws {
        let before = try lines("h")
        try aurora.waitFor("the program \(what)") { try lines("h") > before + 3 }
    }

    private func start(_ disk: HangingFileSystem) throws {
        let words = ["persist", "-d", "--name", "h", "--period", "20ms", "--store", "\(disk.path)/store", "--wait-durable", "120", "--"]
        let started = try aurora.run(words + PersistTests.counter)
        try #require(started.code == 0, "\(started.error)")
    }

    /// A checkpoint that does not come in time, a backend that is let go, and one that comes back.
    @Test func aHungDiskIsTold() throws {
        guard let disk = try makeFileSystem() else { return }
        try start(disk)
        try disk.freeze()
        defer { try? disk.thaw() }
        let late = try aurora.run("checkpoint", "h", "--timeout", "2")
        #expect(late.code == 1 && late.error.contains("was not durable within 2 s") && late.error.contains("under way"), "\(late.error)")
        let named = try aurora.run("checkpoint", "h", "mine", "--timeout", "1")
        #expect(named.code == 1 && named.error.contains("was not durable within 1 s"), "\(named.error)")
        try aurora.waitFor("a word that checkpoints are late") { try aurora.run("ps", "h").output.contains("checkpoints late") }
        try goesOn("under a hung disk")
        let detached = try aurora.run("detach", "h", "--timeout", "2")
        #expect(detached.code == 1 && detached.error.contains("Backend store was given up: for all of 2 s"), "\(detached.error)")
        #expect(detached.error.contains("aurora attach"), "\(detached.error)")
        let gone = try aurora.run("checkpoint", "h")
        #expect(gone.code == 1 && gone.error.contains("no backend"), "\(gone.error)")
        try goesOn("without its backend")
        // The call that hung comes back: its history can be written again.
        try disk.thaw()
        try aurora.waitFor("the backend's return", seconds: 60) { try aurora.run("attach", "h", "--backend", "store").code == 0 }
        let again = try aurora.run("checkpoint", "h", "again")
        #expect(again.code == 0, "\(again.error)")
        try aurora.killVMM("h")
        #expect(try aurora.run("restore", "h", "--at", "again").code == 0)
        try goesOn("after a restore")
        // Nobody writes while all is read.
        try aurora.killVMM("h")
        let scrub = try aurora.run("store", "scrub", "--store", "\(disk.path)/store")
        #expect(scrub.code == 0 && scrub.output.contains(" 0 findings"), "\(scrub.output)\(scrub.error)")
    }

    /// Who stops a group whose disk hangs gets it stopped; what was durable is gone on from when the disk is back.
    @Test func aGroupOnAHungDiskIsStopped() throws {
        guard let disk = try makeFileSystem() else { return }
        try start(disk)
        let process = try #require(try aurora.state("h").process)
        try disk.freeze()
        defer { try? disk.thaw() }
        let stopped = try aurora.run("stop", "h", "--time", "2")
        #expect(stopped.code == 0, "\(stopped.error)")
        let (state, _, warnings) = try aurora.state("h")
        #expect(state == "exited", "\(state)")
        #expect(warnings.contains { $0.contains("No last checkpoint was made") }, "\(warnings)")
        #expect(warnings.contains { $0.hasPrefix("Left behind") && $0.contains("the backend store") }, "\(warnings)")
        try disk.thaw()
        // A process in the kernel's hands goes when the disk answers.
        try aurora.waitForEnd(of: process)
        let restored = try aurora.run("restore", "h")
        #expect(restored.code == 0, "\(restored.error)")
        try goesOn("after a restore")
    }
}
