import CLinux
import Foundation
import Linux
import Testing

/// What a guest can take of the host: no more than it was granted, whatever it does, and who asks for more is told.
@Suite(.enabled(if: Command.obstacle == nil, "guests cannot be run here"), .serialized, .timeLimit(.minutes(10)))
struct BoundsTests {
    let aurora: Command

    init() throws { aurora = try Command() }

    /// The most that a VMM process may hold beside its guest's memory, whatever the guest sends: queues, relays, logs, the program itself.
    private static let ownMegabytesMax = 96
    /// What a persisted group's checkpoints may hold beside that.
    private static let poolMegabytes = 256

    /// The most memory that a process has had, in MiB.
    private func peak(_ process: Int32) throws -> Int {
        let text = try String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8)
        let line = try #require(text.split(separator: "\n").first { $0.hasPrefix("VmHWM:") })
        return try #require(Int(line.split(separator: " ").dropFirst().first ?? "")) / 1024
    }

    /// A server that sends without end to whoever connects, and prints without end.
    private static let flood = """
        use IO::Socket::INET; use IO::Select; $| = 1; $SIG{PIPE} = "IGNORE";
        my $listener = IO::Socket::INET->new(LocalAddr => "0.0.0.0", LocalPort => 7777, Listen => 50, ReuseAddr => 1) or die "$!";
        $listener->blocking(0);
        my @clients; my $block = "f" x 65536; my $line = ("l" x 120 . "\\n") x 500;
        print "listening\\n";
        while (1) {
          if (my $new = $listener->accept) { $new->blocking(0); push @clients, $new }
          syswrite($_, $block) for @clients;
          syswrite(STDOUT, $line);
        }
        """

    /// Connections whose other end reads nothing, beside a log without end.
    @Test(arguments: ["run", "persist"]) func aFloodTakesNoMoreThanItsBound(verb: String) throws {
        #expect(try aurora.run(verb, "-d", "--name", "f", "-m", "128M", "-p", "0:7777", "--", "perl", "-e", Self.flood).code == 0)
        try aurora.waitFor("the server") { try aurora.run("logs", "f").output.contains("listening") }
        let entry = try aurora.run("ps", "--format", "json", "f").output
        let port = try #require(entry.firstMatch(of: /"hostPort" : (\d+)/).flatMap { UInt16($0.1) })
        let clients = try (0..<16).map { _ in SharedDescriptor(try Socket.beginConnecting(address: 0x7F00_0001, port: port)) }
        let process = try #require(try aurora.state("f").process)
        // Far more than any queue, by the bytes that the process has written in all; what a debug build writes on a busy host in time.
        func written() throws -> UInt64 {
            let text = try String(contentsOfFile: "/proc/\(process)/io", encoding: .utf8)
            return text.firstMatch(of: /wchar: (\d+)/).flatMap { UInt64($0.1) } ?? 0
        }
        let begin = try written()
        try aurora.waitFor("a flood") { try written() > begin + 64 << 20 }
        let bound = 128 + Self.ownMegabytesMax + (verb == "persist" ? Self.poolMegabytes : 0)
        let found = try peak(process)
        #expect(found <= bound, "\(found) MiB instead of at most \(bound)")
        #expect(try aurora.state("f").state == "running")
        #expect(try aurora.run("stop", "-t", "2", "f").code == 0)
        withExtendedLifetime(clients) {}
    }

    /// More memory than the host has is refused before anything is made.
    @Test func moreMemoryThanThereIsIsRefused() throws {
        let refused = try aurora.run("persist", "-d", "--name", "t", "-m", "1000T", "--", "true")
        #expect(refused.code != 0 && refused.error.contains("more than this host has"), "\(refused.code) \(refused.error)")
        #expect(try aurora.run("ps", "-aq").output == "")
    }

    /// A place for cgroups that this user may write, and the file of its memory limit; nil where there is none.
    private static func place() -> (path: String, limit: String)? {
        for (root, limit) in [("/sys/fs/cgroup/memory", "memory.limit_in_bytes"), ("/sys/fs/cgroup", "memory.max")] {
            let path = "\(root)/aurora-tests-\(UUID().uuidString.prefix(8))"
            if FileManager.default.fileExists(atPath: "\(root)/cgroup.procs"), mkdir(path, 0o755) == 0 { return (path, limit) }
        }
        print("SKIPPED: no cgroup can be made here")
        return nil
    }

    /// Each group has a cgroup of its own with its limits, where the user has named a place; what is left of ended ones goes.
    @Test func groupsAreLimitedByACgroup() throws {
        guard let place = Self.place() else { return }
        defer {
            for name in ["one", "two"] { _ = try? aurora.run("rm", "--force", name) }
            for name in ["aurora-one", "aurora-two", ""] {
                for _ in 0..<100 where rmdir("\(place.path)/\(name)") != 0 && errno == EBUSY { usleep(20_000) }
            }
        }
        func start(_ name: String, _ place: String) throws -> CommandResult {
            try aurora.run(
                ["AURORA_CGROUP=\(place)", Command.path, "run", "-d", "-m", "128M", "--name", name, "--", "sleep", "1000"],
                program: "/usr/bin/env")
        }
        #expect(try start("one", place.path).code == 0)
        let process = try #require(try aurora.state("one").process)
        #expect(try String(contentsOfFile: "/proc/\(process)/cgroup", encoding: .utf8).contains("/aurora-one"))
        let limit = try? String(contentsOfFile: "\(place.path)/aurora-one/\(place.limit)", encoding: .utf8)
        // Where the controller is not handed on there is no such file.
        if let limit { #expect(Int(limit.filter(\.isNumber)) == (128 + 512) << 20) }
        #expect(try aurora.run("stop", "-t", "0", "one").code == 0)
        try aurora.waitForEnd(of: process)
        #expect(try start("two", place.path).code == 0)
        #expect(!FileManager.default.fileExists(atPath: "\(place.path)/aurora-one"))
        let refused = try start("three", "/nowhere")
        #expect(refused.code == 125 && refused.error.contains("AURORA_CGROUP"), "\(refused.code) \(refused.error)")
    }
}
