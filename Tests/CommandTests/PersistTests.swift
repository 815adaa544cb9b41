import CLinux
import Foundation
import Linux
import Testing

/// Checkpoints, restores and their bad input, with real guests.
@Suite(.enabled(if: Command.obstacle == nil, "guests cannot be run here"), .serialized, .timeLimit(.minutes(10)))
struct PersistTests {
    let aurora: Command
    /// Counts for ever, a line a number: what was lost or doubled by a restore is seen in the log.
    static let counter = ["sh", "-c", "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"]

    init() throws { aurora = try Command() }

    private struct Checkpoint: Decodable {
        let number: UInt64
        let name: String?
        let isDurable: Bool
    }

    private func history(_ name: String) throws -> [Checkpoint] {
        try JSONDecoder().decode([Checkpoint].self, from: Data(try aurora.run("history", "--format", "json", "-n", "0", name).output.utf8))
    }

    private func numbers(_ name: String) throws -> [Int] {
        try aurora.run("logs", name).output.split(separator: "\n").compactMap { Int($0) }
    }

    private func waitFor(_ what: String, seconds: Int = 300, _ condition: () throws -> Bool) throws {
        for _ in 0..<seconds * 20 {
            if try condition() { return }
            usleep(50_000)
        }
        Issue.record("not within \(seconds) s: \(what)")
    }

    private func killVMM(_ name: String) throws {
        let process = try #require(try aurora.state(name).process)
        #expect(kill(process, SIGKILL) == 0)
        try waitFor("the death of \(name)") { try aurora.state(name).state == "dead" }
    }

    @Test func killedGroupGoesOnFromItsLastCheckpoint() throws {
        #expect(try aurora.run(["persist", "-d", "--name", "k", "--"] + PersistTests.counter).output == "k\n")
        try waitFor("numbers") { try numbers("k").count > 3 }
        let marked = try #require(try numbers("k").last)
        let first = try aurora.run("checkpoint", "k", "named")
        #expect(first.code == 0, "\(first.error)")
        try killVMM("k")
        #expect(try aurora.run("ps", "-a").output.contains("resumable at"))
        let before = try numbers("k")
        #expect(try aurora.run("restore", "k").output == "k\n")
        try waitFor("ten more numbers") { try numbers("k").count > before.count + 10 }
        // The line of numbers goes on without a gap, from a point that is no older than the durable checkpoint.
        let after = try numbers("k").dropFirst(before.count)
        let start = try #require(after.first)
        #expect(start > marked)
        #expect(start <= (before.last ?? 0) + 1)
        #expect(Array(after) == Array(start..<start + after.count))
        // What the guest touched first is known to the next restore, which a damaged list does not harm.
        let list = URL(filePath: "\(aurora.home)/working-sets/group k")
        try waitFor("the working set") { FileManager.default.fileExists(atPath: list.path) }
        let known = try Data(contentsOf: list)
        #expect(known.count > 400, "\(known.count) bytes")
        try (known + Data((0..<1000).map { _ in UInt8.random(in: 0...255) })).write(to: list)
        // Restored once more, now from a name; newer checkpoints stay.
        let latest = try #require(try history("k").last?.number)
        try killVMM("k")
        #expect(try aurora.run("restore", "k", "--at", "named").code == 0)
        #expect(try aurora.run("checkpoint", "k").code == 0)
        #expect(try history("k").contains { $0.number == latest })
        #expect(try history("k").contains { $0.name == "named" })
        #expect(try aurora.run("rm", "k").code == 1)
        #expect(try aurora.run("rm", "--force", "k").code == 0)
        #expect(try aurora.run("ps", "-aq").output == "")
        #expect(!FileManager.default.fileExists(atPath: list.path))
    }

    @Test func clonesDivergeAndRollbackGoesBack() throws {
        try aurora.run(["persist", "-d", "--name", "a", "--period", "off", "--"] + PersistTests.counter)
        try waitFor("five numbers") { try numbers("a").count > 5 }
        #expect(try aurora.run("checkpoint", "a", "here").code == 0)
        let here = try #require(try numbers("a").last)
        #expect(try aurora.run("restore", "a", "--at", "here", "--as", "b").output == "b\n")
        #expect(try aurora.run("clone", "a", "c").output == "c\n")
        #expect(try aurora.run("exec", "b", "--", "sh", "-c", "echo b > /mark; hostname").output == "b\n")
        #expect(try aurora.run("exec", "a", "--", "test", "-e", "/mark").code == 1)
        try waitFor("numbers of the clone") { try numbers("b").count > 3 }
        #expect(abs(try #require(try numbers("b").first) - here) < 10)
        let count = try numbers("a").count
        #expect(try aurora.run("rollback", "a", "--to", "here").code == 0)
        try waitFor("numbers after the rollback") { try numbers("a").count > count + 5 }
        #expect(try zip(numbers("a"), numbers("a").dropFirst()).contains { $0 > $1 }, "the count never went back")
        #expect(Set(try aurora.run("ps", "-q").output.split(separator: "\n")) == ["a", "b", "c"])
    }

    @Test func runningGroupIsAttachedAndDetached() throws {
        try aurora.run(["run", "-d", "--name", "r", "--"] + PersistTests.counter)
        let refused = try aurora.run("checkpoint", "r")
        #expect(refused.code == 1)
        #expect(refused.error.contains("aurora attach r --backend store"))
        let attached = try aurora.run("attach", "r", "--backend", "store", "--period", "off")
        #expect(attached.code == 0, "\(attached.error)")
        #expect(try aurora.run("attach", "r", "--backend", "store").code == 125)
        #expect(try aurora.run("checkpoint", "r", "one").code == 0)
        #expect(try aurora.run("detach", "r").code == 0)
        #expect(try aurora.run("checkpoint", "r").code == 1)
        // Attached anew, it gets everything anew.
        #expect(try aurora.run("attach", "r", "--backend", "store").code == 0)
        #expect(try aurora.run("checkpoint", "r", "two").code == 0)
        try killVMM("r")
        #expect(try aurora.run("restore", "r", "--at", "two").code == 0)
        #expect(try aurora.run("exec", "r", "--", "true").code == 0)
        #expect(try aurora.run("gc").code == 0)
        #expect(try aurora.run("store", "verify").code == 0)
    }

    @Test func badInputIsRefusedWithTheReason() throws {
        try aurora.run(["persist", "-d", "--name", "x", "--"] + PersistTests.counter)
        try aurora.run("checkpoint", "x", "named")
        let cases: [(arguments: [String], code: Int32, message: String)] = [
            (["checkpoint", "x", "named"], 1, "has a checkpoint named already"),
            (["restore", "x"], 125, "aurora rollback x"),
            (["restore", "x", "--as", "x"], 125, "The store has a history of a group x"),
            (["restore", "x", "--at", "99999999", "--as", "y"], 125, "no checkpoint number 99999999"),
            (["restore", "x", "--at", "nobody", "--as", "y"], 125, "no checkpoint named nobody"),
            (["restore", "x", "--at", "2001-01-01T00:00:00Z", "--as", "y"], 125, "no checkpoint"),
            (["restore", "missing"], 125, "no group named missing"),
            (["rollback", "x", "--to", "99999999"], 1, "no checkpoint number 99999999"),
            (["clone", "x", "x"], 125, "The name x is taken"),
            (["history", "missing"], 1, "group/missing"),
        ]
        for (arguments, code, message) in cases {
            let result = try aurora.run(arguments)
            #expect(result.code == code, "\(arguments): \(result.error)")
            #expect(result.error.contains(message), "\(arguments): \(result.error)")
        }
        // A refused rollback leaves the group as it was.
        let count = try numbers("x").count
        try waitFor("more numbers") { try numbers("x").count > count }
        try aurora.run("pause", "x")
        let paused = try aurora.run("checkpoint", "x")
        #expect(paused.code == 1)
        #expect(paused.error.contains("aurora resume x"))
        try aurora.run("resume", "x")
        #expect(try aurora.run("checkpoint", "x").code == 0)
    }

    @Test func damagedStoreIsRefused() throws {
        try aurora.run(["persist", "-d", "--name", "d", "--"] + PersistTests.counter)
        try aurora.run("checkpoint", "d")
        try killVMM("d")
        let path = "\(aurora.home)/store"
        let file = try #require(FileHandle(forUpdatingAtPath: path))
        // One copy of the superblock is enough.
        try file.write(contentsOf: Data(repeating: 0x55, count: 4096))
        #expect(try aurora.run("restore", "d").code == 0)
        try killVMM("d")
        try file.seek(toOffset: 65_536)
        try file.write(contentsOf: Data(repeating: 0x55, count: 4096))
        try file.close()
        let result = try aurora.run("restore", "d")
        #expect(result.code == 125)
        #expect(result.error.hasPrefix("error: "))
        #expect(result.error.contains("superblock"), "\(result.error)")
    }
}
