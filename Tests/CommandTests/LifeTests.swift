import CLinux
import Foundation
import Linux
import Testing

/// The life of groups as their users meet it: stopped and resumed, put back, killed at bad moments.
@Suite(.enabled(if: Command.obstacle == nil, "guests cannot be run here"), .serialized, .timeLimit(.minutes(15)))
struct LifeTests {
    let aurora: Command

    init() throws { aurora = try Command() }

    private func numbers(_ name: String) throws -> [Int] {
        try aurora.run("logs", name).output.split(separator: "\n").compactMap { Int($0) }
    }

    private func isAlive(_ name: String) throws -> Bool { try aurora.run("exec", name, "--", "true").code == 0 }

    // MARK: - Rollbacks

    /// A target that retention drops meanwhile leaves the group as it was: it is refused before anything is touched.
    @Test func rollbacksUnderAShortHistory() throws {
        #expect(
            try aurora.run(["persist", "-d", "--name", "g", "--history", "5", "--period", "5ms", "--"] + PersistTests.counter).code == 0)
        try aurora.waitFor("some history") { try aurora.history("g").count > 3 }
        var done = 0
        for round in 0..<25 {
            let history = try aurora.history("g").map(\.number)
            let wanted = history[round % min(history.count, 4)]
            let result = try aurora.run("rollback", "g", "--to", "\(wanted)")
            if result.code == 0 {
                done += 1
            } else {
                #expect(!result.error.contains("was ended"), "\(result.error)")
            }
            #expect(try isAlive("g"), "round \(round): \(result.error)")
        }
        // One that means the latest is never refused for that.
        for _ in 0..<5 {
            let result = try aurora.run("rollback", "g")
            #expect(result.code == 0, "\(result.error)")
        }
        #expect(done > 0)
        #expect(try aurora.state("g").state == "running")
        #expect(try aurora.run("checkpoint", "g").code == 0)
    }

    /// What a rollback, and a restore of an older checkpoint, have answered is so after a crash, too, also where the clock makes none.
    @Test func goingBackOutlivesACrash() throws {
        #expect(try aurora.run(["persist", "-d", "--name", "g", "--period", "off", "--"] + PersistTests.counter).code == 0)
        try aurora.waitFor("five numbers") { try numbers("g").count > 5 }
        #expect(try aurora.run("checkpoint", "g", "a").code == 0)
        let marked = try #require(try numbers("g").last)
        let beforeMore = try numbers("g").count
        try aurora.waitFor("forty more") { try numbers("g").count > beforeMore + 40 }
        #expect(try aurora.run("rollback", "g", "--to", "a").code == 0)
        try aurora.killVMM("g")
        func firstAfterRestore(_ arguments: String...) throws -> Int {
            let before = try numbers("g").count
            let result = try aurora.run(["restore", "g"] + arguments)
            #expect(result.code == 0, "\(result.error)")
            try aurora.waitFor("more numbers") { try numbers("g").count > before }
            return try numbers("g")[before]
        }
        #expect(try firstAfterRestore() <= marked + 5)
        let beforeLater = try numbers("g").count
        try aurora.waitFor("forty more") { try numbers("g").count > beforeLater + 40 }
        #expect(try aurora.run("checkpoint", "g", "b").code == 0)
        try aurora.killVMM("g")
        #expect(try firstAfterRestore("--at", "a") <= marked + 5)
        try aurora.killVMM("g")
        #expect(try firstAfterRestore() <= marked + 5)
        #expect(Set(try aurora.history("g").compactMap(\.name)) == ["a", "b"])
        let verified = try aurora.run("store", "verify")
        #expect(verified.code == 0 && verified.output.contains(" 0 findings"), "\(verified.output)")
    }

    /// Clients of a published port: told at once, at both ends, and never given the rest of another time's answer.
    @Test(.enabled(if: access("/dev/net/tun", R_OK | W_OK) == 0, "this host permits no TAP device"))
    func connectionsAreResetByARollback() throws {
        #expect(
            try aurora.run("persist", "-d", "--name", "g", "--period", "off", "-p", "0:7777", "--", "perl", "-e", Self.server).code == 0)
        try aurora.waitFor("the server") { try aurora.run("logs", "g").output.contains("listening") }
        let entry = try aurora.run("ps", "--format", "json", "g").output
        let port = try #require(entry.firstMatch(of: /"hostPort" : (\d+)/).flatMap { UInt16($0.1) })
        let subscriber = try LineClient(port)
        let (idle, busy, flooding) = (try LineClient(port), try LineClient(port), try LineClient(port))
        #expect(try subscriber.ask("sub") == "subscribed")
        for client in [idle, busy, flooding] { #expect(try client.ask("ping") == "pong") }
        #expect(try aurora.run("checkpoint", "g", "s1").code == 0)

        let publisher = try LineClient(port)
        #expect(try publisher.ask("pub aaaaaaaaaa") == "1")
        #expect(try subscriber.read() == "aaaaaaaaaa")
        #expect(try busy.ask("ping") == "pong")
        // More than any window: what the guest expects next lies far behind.
        try flooding.send(String(repeating: "x " + String(repeating: "y", count: 1000) + "\n", count: 8000))
        #expect(try flooding.ask("ping") == "pong")
        #expect(try aurora.run("rollback", "g", "--to", "s1").code == 0)

        for client in [subscriber, idle, busy, flooding, publisher] { #expect(try client.isReset()) }
        // The guest's side finds out without sending anything: all four connections it has from the checkpoint.
        try aurora.waitFor("the guest to notice", seconds: 60) {
            try aurora.run("logs", "g").output.split(separator: "\n").filter { $0 == "gone" }.count >= 4
        }
        let next = try LineClient(port)
        #expect(try next.ask("pub bbbbbbbbbb-the-end") == "0")
        let again = try LineClient(port)
        #expect(try again.ask("sub") == "subscribed")
        #expect(try next.ask("pub cc") == "1")
        #expect(try again.read() == "cc")
    }

    /// Answers `ping`, takes subscribers, hands them what is published, and says when a client has gone.
    private static let server = """
        use IO::Socket::INET; use IO::Select; $| = 1; $SIG{PIPE} = "IGNORE";
        my $listener = IO::Socket::INET->new(LocalAddr => "0.0.0.0", LocalPort => 7777, Listen => 50, ReuseAddr => 1) or die "$!";
        my $select = IO::Select->new($listener); my (%rest, %subscribed);
        print "listening\n";
        while (1) { for my $one ($select->can_read) {
          if ($one == $listener) { my $new = $listener->accept or next; $select->add($new); $rest{$new} = ""; next }
          my $count = sysread($one, $rest{$one}, 65536, length $rest{$one});
          unless ($count) { $select->remove($one); delete $subscribed{$one}; close $one; print "gone\n"; next }
          while ($rest{$one} =~ s/^(.*?)\n//) { my $line = $1;
            if ($line eq "ping") { syswrite($one, "pong\n") }
            elsif ($line eq "sub") { $subscribed{$one} = $one; syswrite($one, "subscribed\n") }
            elsif ($line =~ s/^pub //) { syswrite($_, "$line\n") for values %subscribed; syswrite($one, scalar(keys %subscribed) . "\n") }
          }
        } }
        """

    // MARK: - Ends and restores

    /// What was stopped goes on where it was told to end, with its port, at once: name and port are free when stop returns.
    @Test func stoppedGroupsGoOn() throws {
        let script = "trap 'echo bye; exit 0' TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"
        let free = try Socket.listen(address: 0x7F00_0001, port: 0)
        let port = try #require(Socket.port(of: free.rawValue))
        _ = consume free
        #expect(try aurora.run("persist", "-d", "--name", "g", "-p", "\(port):7777", "--", "sh", "-c", script).code == 0)
        for round in 0..<4 {
            let before = try numbers("g").count
            try aurora.waitFor("numbers in round \(round)") { try numbers("g").count > before + 5 }
            #expect(try aurora.run("stop", "g").code == 0)
            let restored = try aurora.run("restore", "g")
            #expect(restored.code == 0, "round \(round): \(restored.error)")
            #expect(try aurora.state("g").state == "running")
        }
        #expect(try aurora.run("logs", "g").output.split(separator: "\n").filter { $0 == "bye" }.count == 4)
        let all = try numbers("g")
        let before = all.count
        try aurora.waitFor("more numbers") { try numbers("g").count > before + 5 }
        // Nothing was lost: each number but for the first follows one that is no more than one behind.
        let gaps = zip(try numbers("g"), try numbers("g").dropFirst()).filter { $1 > $0 + 1 }
        #expect(gaps.isEmpty, "\(gaps)")
    }

    /// A process that is being torn down is waited for, as long as its memory makes that take.
    @Test func restoreRightAfterAKill() throws {
        let fill = "head -c 500M /dev/zero | tr '\\0' 'x' > /dev/shm/full; echo full; while :; do sleep 0.1; done"
        #expect(try aurora.run("persist", "-d", "--name", "g", "-m", "1G", "--period", "off", "--", "sh", "-c", fill).code == 0)
        try aurora.waitFor("the memory") { try aurora.run("logs", "g").output == "full\n" }
        #expect(try aurora.run("checkpoint", "g").code == 0)
        for _ in 0..<3 {
            let process = try #require(try aurora.state("g").process)
            #expect(kill(process, SIGKILL) == 0)
            let restored = try aurora.run("restore", "g")
            #expect(restored.code == 0, "\(restored.error)")
        }
        // One that runs is told from one that goes.
        let refused = try aurora.run("restore", "g")
        #expect(refused.code == 125 && refused.error.contains("is running"), "\(refused.error)")
    }

    /// What failed to be resumed is named, and tried again the next time.
    @Test func allAreTriedAgain() throws {
        var ports: [String: UInt16] = [:]
        for name in ["one", "two"] {
            #expect(try aurora.run(["persist", "-d", "--name", name, "-p", "0:7777", "--"] + PersistTests.counter).code == 0)
            #expect(try aurora.run("checkpoint", name).code == 0)
            let entry = try aurora.run("ps", "--format", "json", name).output
            let port: UInt16 = try #require(entry.firstMatch(of: /"hostPort" : (\d+)/).flatMap { UInt16($0.1) })
            ports[name] = port
        }
        // The kernel chose the ports: the next time it chooses others, unless they are written down.
        for name in ["one", "two"] {
            try aurora.killVMM(name)
            let path = "\(aurora.home)/groups/\(name)/config.json"
            let text = try String(contentsOfFile: path, encoding: .utf8)
            try text.replacing(/"hostPort" : 0/, with: "\"hostPort\" : \(try #require(ports[name]))").write(
                toFile: path, atomically: true, encoding: .utf8)
        }
        do {
            let taken = try Socket.listen(address: 0x7F00_0001, port: try #require(ports["two"]))
            let first = try aurora.run("restore", "--all")
            #expect(first.code == 1 && first.output == "one\n", "\(first.output)")
            #expect(first.error.hasPrefix("error: two: Cannot listen on") && !first.error.contains("ExitCode"), "\(first.error)")
            _ = taken.rawValue
        }
        let second = try aurora.run("restore", "--all")
        #expect(second.code == 0 && second.output == "two\n", "\(second.output)\(second.error)")
        #expect(Set(try aurora.run("ps", "-q").output.split(separator: "\n")) == ["one", "two"])
        #expect(try aurora.run("restore", "--all").output == "")
    }

    /// The latest checkpoint of a group that keeps only a few is held for the new group from the moment it is chosen.
    @Test func clonesUnderAShortHistory() throws {
        #expect(
            try aurora.run(["persist", "-d", "--name", "g", "--history", "2", "--period", "5ms", "--"] + PersistTests.counter).code == 0)
        try aurora.waitFor("numbers") { try numbers("g").count > 3 }
        for round in 0..<6 {
            let arguments = round % 2 == 0 ? ["clone", "g", "c\(round)"] : ["restore", "g", "--as", "c\(round)"]
            let result = try aurora.run(arguments)
            #expect(result.code == 0, "\(arguments): \(result.error)")
            try aurora.waitFor("numbers of the clone") { try numbers("c\(round)").count > 2 }
            #expect(try aurora.run("rm", "--force", "c\(round)").code == 0)
        }
    }

    // MARK: - Limits

    /// A limit of the size of files is told, and leaves nothing of a group that was to be removed.
    @Test func aFileSizeLimitIsTold() throws {
        let limited = ["/usr/bin/prlimit", "--fsize=60000000"]
        let refused = try aurora.run(["persist", "--rm", "--name", "g", "--", "echo", "hi"], launcher: limited)
        #expect(refused.code == 125 && refused.error.contains("ulimit -f"), "\(refused.code) \(refused.error)")
        // What needs no larger file runs.
        let result = try aurora.run(["run", "--rm", "--name", "g", "--", "echo", "hi"], launcher: limited)
        #expect(result.output == "hi\n" || result.error.contains("ulimit -f"), "\(result.code) \(result.error)")
        #expect(try aurora.run("ps", "-aq").output == "")
        let doctor = try aurora.run(["doctor"], launcher: limited)
        #expect(doctor.output.contains("file size") && doctor.output.contains("ulimit -f"), "\(doctor.output)")
        // A soft limit is no obstacle.
        let soft = try aurora.run(["run", "--rm", "--", "echo", "hi"], launcher: ["/usr/bin/prlimit", "--fsize=60000000:unlimited"])
        #expect(soft.output == "hi\n", "\(soft.error)")
    }
}

/// A client that speaks in lines.
private final class LineClient {
    private let socket: SharedDescriptor
    private var bytes: [UInt8] = []

    init(_ port: UInt16) throws {
        let opened = try Socket.beginConnecting(address: 0x7F00_0001, port: port)
        try Socket.setNonBlocking(opened.rawValue, false)
        _ = clinux_socket_timeouts(opened.rawValue, 30_000)
        socket = SharedDescriptor(opened)
    }

    func send(_ text: String) throws {
        var left = Array(text.utf8)[...]
        while !left.isEmpty {
            let sent = left.withUnsafeBytes { clinux_send(socket.rawValue, $0.baseAddress, $0.count) }
            try #require(sent > 0)
            left = left.dropFirst(sent)
        }
    }

    func ask(_ line: String) throws -> String {
        try send(line + "\n")
        return try read()
    }

    func read() throws -> String {
        var chunk = [UInt8](repeating: 0, count: 4096)
        while true {
            if let end = bytes.firstIndex(of: 10) {
                defer { bytes.removeFirst(end + 1) }
                return String(decoding: bytes[..<end], as: UTF8.self)
            }
            let count = clinux_recv(socket.rawValue, &chunk, chunk.count)
            try #require(count > 0, "\(count)")
            bytes += chunk[..<count]
        }
    }

    /// Whether the next thing it hears is that the connection was reset.
    func isReset() throws -> Bool {
        var byte: UInt8 = 0
        return clinux_recv(socket.rawValue, &byte, 1) == -Int(ECONNRESET)
    }
}
