import CLinux
import Foundation
import Linux
import Testing

/// A host that permits no TAP device, made of this one.
private enum NoTap {
    /// Runs a command in a mount namespace of its own in which /dev/net/tun is no TAP device.
    static let launcher = [
        "/usr/bin/unshare", "--mount", "/bin/sh", "-c", "[ ! -e /dev/net/tun ] || mount --bind /dev/null /dev/net/tun && exec \"$@\"", "sh",
    ]

    /// Why that cannot be done here; nil when it can.
    static let obstacle: String? = {
        let process = Process()
        process.executableURL = URL(filePath: launcher[0])
        process.arguments = launcher[1...] + ["/bin/true"]
        process.standardError = FileHandle.nullDevice
        let works: Bool
        do {
            try process.run()
            process.waitUntilExit()
            works = process.terminationStatus == 0
        } catch {
            works = false
        }
        if !works { print("SKIPPED: groups without TAP: no mount namespace can be made (needs root and unshare of util-linux)") }
        return works ? nil : "no mount namespace can be made"
    }()
}

/// Groups on a host that permits no TAP device.
@Suite(
    .enabled(if: Command.obstacle == nil, "guests cannot be run here"),
    .enabled(if: NoTap.obstacle == nil, "/dev/net/tun cannot be hidden here"), .serialized, .timeLimit(.minutes(10)))
struct NetworkTests {
    let aurora: Command

    init() throws { aurora = try Command() }

    /// How often the last answer repeats the question: more than fits into the buffers of guest, agent and host.
    private static let lastRepeats = 500_000

    /// Answers every connection with what it sent, in capitals, until it has done so four times; ends right after a long last answer.
    private static let server = """
        use IO::Socket::INET;
        my $listener = IO::Socket::INET->new(LocalAddr => "0.0.0.0", LocalPort => 7777, Listen => 5, ReuseAddr => 1) or die "$!";
        $| = 1;
        print "listening\n";
        for (1 .. 3) { my $client = $listener->accept; my $line = <$client>; print $client uc $line; close $client; }
        my $client = $listener->accept; my $line = <$client>; print $client uc($line) x \(lastRepeats);
        """

    @Test func groupWithoutTapWarnsAndItsPortAnswersThroughTheAgent() throws {
        let started = try aurora.run(
            ["run", "-d", "--name", "t", "-p", "0:7777", "--", "perl", "-e", Self.server], launcher: NoTap.launcher)
        #expect(started.code == 0)
        #expect(started.output == "t\n")
        #expect(started.error.contains("warning: The group has no network: "))
        #expect(started.error.contains("Published ports go through the guest's agent"))
        let warnings = try aurora.state("t").warnings
        #expect(warnings.count == 1)
        #expect(warnings.allSatisfy { $0.hasPrefix("The group has no network: ") })
        #expect(try aurora.run("exec", "t", "--", "sh", "-c", "ls /sys/class/net").output == "lo\n")
        while try aurora.run("logs", "t").output != "listening\n" {
            try #require(try aurora.state("t").state == "running")
            usleep(10_000)
        }
        let port = try hostPort("t")
        for word in ["first", "second", "third"] { #expect(try Self.ask(port, word) == word.uppercased() + "\n") }
        try theLastAnswerComesWhole(port)
        while try aurora.state("t").state == "running" { usleep(10_000) }
        #expect(try aurora.state("t").state == "exited")
    }

    /// The guest ends with its program, but not before the client has what was sent.
    private func theLastAnswerComesWhole(_ port: UInt16) throws {
        let answer = try Self.ask(port, "fourth")
        // Not the text itself: it is long.
        #expect(answer.utf8.count == 7 * Self.lastRepeats && answer == String(repeating: "FOURTH\n", count: Self.lastRepeats))
    }

    /// A group with TAP says nothing of the kind, so that the warning above means something.
    @Test(.enabled(if: access("/dev/net/tun", R_OK | W_OK) == 0, "this host permits no TAP device"))
    func groupWithTapDoesNotWarn() throws {
        let result = try aurora.run("run", "--name", "w", "--", "ls", "/sys/class/net")
        #expect(result.output == "eth0\nlo\n")
        #expect(result.error == "")
        #expect(try aurora.state("w").warnings == [])
    }

    /// The same over TAP, to a program that answers once.
    @Test(.enabled(if: access("/dev/net/tun", R_OK | W_OK) == 0, "this host permits no TAP device"))
    func lastAnswerComesThroughTap() throws {
        let once = Self.server.replacingOccurrences(of: "(1 .. 3)", with: "(1 .. 0)")
        #expect(try aurora.run("run", "-d", "--name", "o", "-p", "0:7777", "--", "perl", "-e", once).code == 0)
        while try aurora.run("logs", "o").output != "listening\n" {
            try #require(try aurora.state("o").state == "running")
            usleep(10_000)
        }
        try theLastAnswerComesWhole(try hostPort("o"))
    }

    private func hostPort(_ group: String) throws -> UInt16 {
        let entry = try aurora.run("ps", "--format", "json", group).output
        return try #require(entry.firstMatch(of: /"hostPort" : (\d+)/).flatMap { UInt16($0.1) })
    }

    /// Sends a line to a port of this host and answers what comes back.
    private static func ask(_ port: UInt16, _ line: String) throws -> String {
        let socket = try Socket.beginConnecting(address: 0x7F00_0001, port: port)
        let number = socket.rawValue
        try Socket.setNonBlocking(number, false)
        _ = clinux_socket_timeouts(number, 20000)
        let sent = Array((line + "\n").utf8).withUnsafeBytes { clinux_send(number, $0.baseAddress, $0.count) }
        #expect(sent == line.utf8.count + 1)
        var answer: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = buffer.withUnsafeMutableBytes { clinux_recv(number, $0.baseAddress, $0.count) }
            if count <= 0 { return String(decoding: answer, as: UTF8.self) }
            answer += buffer[..<Int(count)]
        }
    }
}
