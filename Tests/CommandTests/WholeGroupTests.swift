import CLinux
import Foundation
import Store
import Testing

/// Groups resumed all at once, watched, with volumes of their own, with several backends, put back again and again.
@Suite(.enabled(if: Command.obstacle == nil, "guests cannot be run here"), .serialized, .timeLimit(.minutes(10)))
struct WholeGroupTests {
    let aurora: Command

    init() throws { aurora = try Command() }

    private func numbers(_ name: String) throws -> [Int] {
        try aurora.run("logs", name).output.split(separator: "\n").compactMap { Int($0) }
    }

    private func goesOn(_ what: String) throws {
        let count = try numbers("m").count
        try aurora.waitFor("numbers after \(what)") { try numbers("m").count > count + 2 }
    }

    private func makeVolume(_ name: String, megabytes: Int) throws -> String {
        let path = "\(aurora.home)/\(name)"
        try #require(FileManager.default.createFile(atPath: path, contents: nil))
        let file = try #require(FileHandle(forWritingAtPath: path))
        try file.truncate(atOffset: UInt64(megabytes) << 20)
        try file.close()
        try #require(try run("/sbin/mkfs.ext4", "-q", path) == 0)
        return path
    }

    /// All groups that were killed are resumed, and no other; one that cannot be does not keep the others from it.
    @Test func allAreRestored() throws {
        for name in ["a", "b", "c", "gone", "plain"] {
            let verb = name == "plain" ? "run" : "persist"
            #expect(try aurora.run([verb, "-d", "--name", name, "--"] + PersistTests.counter).code == 0)
        }
        for name in ["a", "b", "c", "gone"] {
            try aurora.waitFor("numbers of \(name)") { try numbers(name).count > 2 }
            #expect(try aurora.run("checkpoint", name).code == 0)
        }
        #expect(try aurora.run("stop", "-t", "0", "c").code == 0)
        for name in ["a", "b", "gone", "plain"] { try aurora.killVMM(name) }
        // Its history is no longer there.
        do {
            let store = try aurora.openStore()
            try store.removeStream("group/gone")
        }
        let before = ["a": try numbers("a").count, "b": try numbers("b").count]
        let result = try aurora.run("restore", "--all")
        #expect(result.code == 1)
        #expect(result.error.contains("gone") && result.error.contains("no checkpoints"), "\(result.error)")
        #expect(Set(result.output.split(separator: "\n")) == ["a", "b"])
        #expect(Set(try aurora.run("ps", "-q").output.split(separator: "\n")) == ["a", "b"])
        for (name, count) in before { try aurora.waitFor("more of \(name)") { try numbers(name).count > count } }
        // Nothing is left to do but what cannot be done.
        #expect(try aurora.run("restore", "--all").output == "")
        let top = try aurora.run("top", "--no-stream")
        #expect(top.code == 0)
        let lines = top.output.split(separator: "\n")
        #expect(lines.count == 3 && lines[0].hasPrefix("NAME"), "\(top.output)")
        #expect(lines[1].hasPrefix("a ") && lines[2].hasPrefix("b "), "\(top.output)")
        struct Row: Decodable {
            struct Report: Decodable { let count: Int }
            let name: String
            let residentBytes: Int
            let checkpoints: Report?
        }
        let json = try aurora.run("top", "--no-stream", "--format", "json", "a").output
        let rows = try JSONDecoder().decode([Row].self, from: Data(json.utf8))
        #expect(rows.map(\.name) == ["a"] && rows[0].residentBytes > 1 << 20 && (rows[0].checkpoints?.count ?? 0) > 0)
        #expect(try aurora.run("top", "--no-stream", "nobody").code != 0)
        let scrub = try aurora.run("store", "scrub")
        #expect(scrub.code == 0 && scrub.output.contains(" 0 findings, 0 repaired"), "\(scrub.output)")
    }

    /// A file system on a persisted volume, written all the time: each checkpoint holds it as of one moment, with the memory of
    /// who writes it; restored and rolled back it is clean and holds what the checkpoint's program knows.
    @Test func fileSystemOnAVolume() throws {
        let volume = try makeVolume("data.ext4", megabytes: 64)
        let original = try Data(contentsOf: URL(filePath: volume))
        // The program knows how many files it has written; each says its number. Some are removed, some renamed.
        let program = """
            echo $$ > /dev/shm/pid; i=0; while :; do i=$((i+1)); echo $i > /data/f$i; [ $((i%5)) = 0 ] && rm /data/f$((i-2)); \
            sleep 0.01; [ $((i%16)) = 0 ] && sync; \
            [ $((i%7)) = 0 ] && dd if=/dev/urandom of=/data/big bs=64k count=8 conv=notrunc status=none; \
            echo $i > /dev/shm/known; echo $i; done
            """
        let started = try aurora.run("persist", "-d", "--name", "v", "--volume", "\(volume):/data", "--", "sh", "-c", program)
        #expect(started.code == 0, "\(started.error)")
        func check(_ name: String, after least: Int) throws {
            let exec = try aurora.run("exec", name, "--", "sh", "-c", Self.look)
            let words = exec.output.split(separator: "\n").map(String.init)
            #expect(exec.code == 0 && words.count == 1, "\(name): \(exec.output)\(exec.error)")
            #expect((words.first.flatMap { Int($0) } ?? 0) >= least, "\(name): \(exec.output)")
        }
        for round in 0..<3 {
            try aurora.waitFor("files") { try numbers("v").count > 60 * (round + 1) }
            #expect(try aurora.run("checkpoint", "v", "c\(round)").code == 0)
        }
        try aurora.killVMM("v")
        #expect(try aurora.run("restore", "v").code == 0)
        try check("v", after: 180)
        for round in [1, 0, 2] {
            let rollback = try aurora.run("rollback", "v", "--to", "c\(round)")
            #expect(rollback.code == 0, "\(rollback.error)")
            try check("v", after: 60 * (round + 1))
        }
        for round in 0..<3 { try checkImage("v", "c\(round)", bytes: original.count) }
        #expect(try aurora.run("restore", "v", "--at", "c1", "--as", "w").code == 0)
        try check("w", after: 120)
        // The file of the host is what it was: the store has the volume.
        #expect(try Data(contentsOf: URL(filePath: volume)) == original)
        let verified = try aurora.run("store", "verify")
        #expect(verified.code == 0, "\(verified.output)\(verified.error)")
    }

    /// Every file that the stopped program knows of is there with its contents; says how many it knows.
    private static let look = """
        p=$(cat /dev/shm/pid); kill -STOP $p; read n < /dev/shm/known; k=0; while [ $k -lt $((n-2)) ]; do k=$((k+1)); \
        [ $((k%5)) = 3 ] && continue; v=; read v < /data/f$k; [ "$v" = $k ] || echo bad $k; done; echo $n; kill -CONT $p
        """

    /// What a checkpoint has of a volume, as the guest's kernel would find it after a power cut: the journal is replayed, then nothing
    /// is wrong with it.
    private func checkImage(_ group: String, _ checkpoint: String, bytes: Int) throws {
        let path = "\(aurora.home)/\(checkpoint).ext4"
        let reader = try aurora.openStore().checkpoint(stream: "group/\(group)", .name(checkpoint))
        try #require(FileManager.default.createFile(atPath: path, contents: nil))
        let file = try #require(FileHandle(forWritingAtPath: path))
        try file.truncate(atOffset: UInt64(bytes))
        var page = [UInt8](repeating: 0, count: 4096)
        for reference in try reader.pages(inMap: 2) {
            try page.withUnsafeMutableBytes { try reader.read(reference, into: $0) }
            try file.seek(toOffset: reference.key.page * 4096)
            try file.write(contentsOf: Data(page))
        }
        try file.close()
        #expect(try run("/sbin/e2fsck", "-y", "-E", "journal_only", path) <= 1)
        #expect(try run("/sbin/e2fsck", "-f", "-n", path) == 0, "\(checkpoint)")
    }

    private func run(_ words: String...) throws -> Int32 {
        let process = Process()
        process.executableURL = URL(filePath: words[0])
        process.arguments = Array(words[1...])
        try process.run()
        process.waitUntilExit()
        return process.terminationStatus
    }

    /// Store and memory together, rolled back, detached and attached again in every order; the history goes on.
    @Test func severalBackendsAndRollbacks() throws {
        let options = ["-d", "--name", "m", "--backend", "store", "--backend", "memory", "--"]
        #expect(try aurora.run(["persist"] + options + PersistTests.counter).code == 0)
        try aurora.waitFor("numbers") { try numbers("m").count > 4 }
        func backends() throws -> Set<String> {
            struct Entry: Decodable {
                struct Status: Decodable { let backends: [String]? }
                let status: Status
            }
            let entries = try JSONDecoder().decode([Entry].self, from: Data(try aurora.run("inspect", "m").output.utf8))
            return Set(entries.first?.status.backends ?? [])
        }
        func done(_ words: String...) throws {
            let result = try aurora.run(words)
            #expect(result.code == 0, "\(words): \(result.error)")
        }
        #expect(try backends() == ["store", "memory"])
        try done("checkpoint", "m", "one")
        try goesOn("a checkpoint")
        for round in 0..<3 {
            try done("rollback", "m", "--to", "one")
            #expect(try backends() == ["store", "memory"])
            try goesOn("rollback \(round)")
            try done("checkpoint", "m", "r\(round)")
        }
        try done("detach", "m", "--backend", "memory")
        #expect(try backends() == ["store"])
        try done("rollback", "m", "--to", "r1")
        try done("attach", "m", "--backend", "memory")
        try goesOn("attaching memory after a rollback")
        try done("checkpoint", "m", "both")
        try done("detach", "m", "--backend", "store")
        #expect(try aurora.run("rollback", "m", "--to", "one").code == 1)
        try goesOn("detaching the store")
        try done("checkpoint", "m")
        try done("attach", "m", "--backend", "store")
        try done("checkpoint", "m", "anew")
        try done("rollback", "m", "--to", "r2")
        try goesOn("rollback over the gap")
        try done("rollback", "m", "--to", "anew")
        try goesOn("rollback to after the gap")
        try done("checkpoint", "m", "last")
        try aurora.killVMM("m")
        for name in ["last", "one", "both", "anew"] {
            try done("restore", "m", "--at", name)
            try goesOn("restore of \(name)")
            #expect(try aurora.run("exec", "m", "--", "true").code == 0)
            try aurora.killVMM("m")
        }
        try done("store", "scrub")
    }
}
