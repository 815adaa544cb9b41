import CLinux
import Foundation
import Testing

/// A file system that holds nothing but a store, and can be filled up.
private final class SmallFileSystem {
    private let holder = Process()
    /// As every process sees it: the file system is mounted for one alone, and goes with it.
    let path: String

    /// - Throws: when nothing can be mounted here.
    init(megabytes: Int, at place: String) throws {
        try FileManager.default.createDirectory(atPath: place, withIntermediateDirectories: true)
        holder.executableURL = URL(filePath: "/usr/bin/unshare")
        let mount = "mount -t tmpfs -o size=\(megabytes)m store \"$1\" && echo mounted && exec cat"
        holder.arguments = ["--mount", "sh", "-c", mount, "sh", place]
        let (input, output) = (Pipe(), Pipe())
        holder.standardInput = input
        holder.standardOutput = output
        holder.standardError = FileHandle.nullDevice
        try holder.run()
        // It ends with its input, whatever becomes of this process.
        let answer = output.fileHandleForReading.availableData
        guard String(decoding: answer, as: UTF8.self) == "mounted\n" else { throw CocoaError(.fileWriteNoPermission) }
        self.input = input
        path = "/proc/\(holder.processIdentifier)/root\(place)"
    }
    private let input: Pipe

    deinit {
        try? input.fileHandleForWriting.close()
        holder.waitUntilExit()
    }

    /// Takes all the room that is left.
    func fill() throws {
        try #require(FileManager.default.createFile(atPath: "\(path)/filler", contents: nil))
        let file = try #require(FileHandle(forWritingAtPath: "\(path)/filler"))
        for bytes in [1 << 20, 4096] {
            let block = Data(repeating: 1, count: bytes)
            while (try? file.write(contentsOf: block)) != nil {}
        }
        try file.close()
    }

    /// Gives some of what was taken back.
    func leave(megabytes: UInt64) throws {
        let file = try #require(FileHandle(forUpdatingAtPath: "\(path)/filler"))
        let size = try file.seekToEnd()
        try file.truncate(atOffset: size - min(size, megabytes << 20))
        try file.close()
    }

    func empty() throws { try FileManager.default.removeItem(atPath: "\(path)/filler") }
}

/// Groups whose store is on a file system without room.
@Suite(.enabled(if: Command.obstacle == nil, "guests cannot be run here"), .serialized, .timeLimit(.minutes(10)))
struct FullDiskTests {
    let aurora: Command

    init() throws { aurora = try Command() }

    /// Counts, and writes the same pieces of memory anew with each number: what a late checkpoint holds does not grow.
    private static let program = [
        "sh", "-c",
        "i=0; while :; do i=$((i+1)); echo $i; dd if=/dev/urandom of=/dev/shm/x bs=64k count=4 conv=notrunc status=none; sleep 0.05; done",
    ]

    private func makeFileSystem() throws -> SmallFileSystem? {
        do { return try SmallFileSystem(megabytes: 384, at: "\(aurora.home)/small") } catch {
            print("SKIPPED: no file system can be mounted here: \(error)")
            return nil
        }
    }

    private func start(_ name: String, _ store: String, _ options: String...) throws {
        let words = ["persist", "-d", "--name", name, "--memory", "256M", "--period", "20ms", "--store", store] + options + ["--"]
        let started = try aurora.run(words + Self.program)
        try #require(started.code == 0, "\(started.error)")
        try aurora.waitFor("a first checkpoint") { try aurora.run("checkpoint", name, "first").code == 0 }
        try aurora.waitFor("a history") { try numbers(name, store).count > 60 }
    }

    private func numbers(_ name: String, _ store: String) throws -> [UInt64] {
        let listed = try aurora.run("history", "--format", "json", "-n", "0", "--store", store, name)
        return try JSONDecoder().decode([Command.Checkpoint].self, from: Data(listed.output.utf8)).filter(\.isDurable).map(\.number)
    }

    private func lines(_ name: String) throws -> Int { try aurora.run("logs", name).output.split(separator: "\n").count }

    /// The group can be resumed from its newest and from its named checkpoint, and nothing in the store is damaged.
    private func checkAfterwards(_ name: String, _ store: String) throws {
        try aurora.killVMM(name)
        for choice in ["latest", "first"] {
            let restored = try aurora.run("restore", name, "--at", choice)
            #expect(restored.code == 0, "\(choice): \(restored.error)")
            let before = try lines(name)
            try aurora.waitFor("a restored program") { try lines(name) > before }
            try aurora.killVMM(name)
        }
        let scrub = try aurora.run("store", "scrub", "--store", store)
        #expect(scrub.code == 0 && scrub.output.contains(" 0 findings"), "\(scrub.output)\(scrub.error)")
    }

    /// History is thinned, and checkpoints go on, on a disk that stays full.
    @Test func historyIsThinnedToMakeRoom() throws {
        guard let small = try makeFileSystem() else { return }
        let store = "\(small.path)/store"
        try start("t", store)
        let before = try numbers("t", store)
        try small.fill()
        let log = "\(aurora.home)/groups/t/engine.log"
        try aurora.waitFor("a full disk") { try String(contentsOfFile: log, encoding: .utf8).contains("No room for a checkpoint") }
        let last = try numbers("t", store).last ?? 0
        try aurora.waitFor("checkpoints on a full disk, and a thinner history") {
            let now = try numbers("t", store)
            return (now.last ?? 0) > last + 20 && !Set(before).isSubset(of: now)
        }
        #expect(try aurora.state("t").state == "running")
        try small.empty()
        try checkAfterwards("t", store)
    }

    /// Where nothing may be dropped the group runs on without checkpoints, says so, and makes them again when there is room.
    @Test func checkpointsWaitForRoom() throws {
        guard let small = try makeFileSystem() else { return }
        let store = "\(small.path)/store"
        try start("w", store, "--history", "all")
        try small.fill()
        try aurora.waitFor("the warning") { try aurora.state("w").warnings.contains { $0.contains("There is no room in the store") } }
        let before = try lines("w")
        let refused = try aurora.run("checkpoint", "w", "refused")
        #expect(refused.code != 0)
        #expect(refused.error.contains("waits for room") && refused.error.contains("No space left"), "\(refused.error)")
        #expect(try aurora.run("ps", "w").output.contains("no room"))
        try aurora.waitFor("the program going on") { try lines("w") > before + 3 }
        let held = Set(try numbers("w", store))
        #expect(try aurora.run("store", "verify", "--store", store).code == 0)
        try small.empty()
        try aurora.waitFor("a checkpoint") { try aurora.run("checkpoint", "w").code == 0 }
        #expect(try held.isSubset(of: numbers("w", store)), "acknowledged checkpoints are gone")
        #expect(try aurora.state("w").warnings.contains { $0.contains("There is room in the store again") })
        // Detaching while there is none does not wait, and leaves the group running.
        try small.fill()
        try aurora.waitFor("no room again") { try aurora.run("ps", "w").output.contains("no room") }
        let detached = try aurora.run("detach", "w", "--backend", "store")
        #expect(detached.code == 0, "\(detached.error)")
        let then = try lines("w")
        try aurora.waitFor("the program without a store") { try lines("w") > then + 3 }
        try small.empty()
        try checkAfterwards("w", store)
    }

    /// What came in parts cannot be given again: the group stands still and says what to do, and that works.
    @Test func anEpochInPartsStopsTheGroup() throws {
        guard let small = try makeFileSystem() else { return }
        let store = "\(small.path)/store"
        try start("p", store)
        #expect(try aurora.run("detach", "p", "--backend", "store").code == 0)
        // All of this is in the first checkpoint after the next attach, and cannot be made smaller.
        let filled = try aurora.run("exec", "p", "--", "dd", "if=/dev/urandom", "of=/dev/shm/y", "bs=1M", "count=80", "status=none")
        #expect(filled.code == 0, "\(filled.error)")
        try small.fill()
        try small.leave(megabytes: 24)
        #expect(try aurora.run("attach", "p", "--backend", "store").code == 0)
        try aurora.waitFor("a group that stands still") { try aurora.state("p").warnings.contains { $0.contains("stands still") } }
        let warnings = try aurora.state("p").warnings.joined(separator: "\n")
        #expect(warnings.contains("No space left") && warnings.contains("aurora detach, attach, resume"), "\(warnings)")
        let held = Set(try numbers("p", store))
        #expect(held.count > 60, "the history is as it was")
        try small.empty()
        for command in [["detach", "p", "--backend", "store"], ["attach", "p", "--backend", "store"], ["resume", "p"]] {
            let result = try aurora.run(command)
            #expect(result.code == 0, "\(command): \(result.error)")
        }
        let before = try lines("p")
        try aurora.waitFor("the program going on") { try lines("p") > before + 3 }
        try aurora.waitFor("a checkpoint") { try aurora.run("checkpoint", "p", "again").code == 0 }
        #expect(try held.isSubset(of: numbers("p", store)), "acknowledged checkpoints are gone")
        try checkAfterwards("p", store)
    }
}
