import AgentClient
import AgentProtocol
import Foundation
import Linux
import Testing

/// A guest agent running on this machine in namespaces of its own, listening on a Unix socket.
///
/// It is the very binary that guests run. Ends with the fixture.
final class AgentFixture {
    let directory: URL
    private let process = Process()

    private static var binary: String {
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()
            .appendingPathComponent("Sources/GuestBlobs/generated/agent").path
    }

    /// Gives the agent a /dev of its own, like a guest's, then becomes the agent.
    private static let deviceScript = """
        set -e
        dev=$1/dev; shift; mkdir "$dev"; mount -t tmpfs tmpfs "$dev"
        for name in null zero full random urandom tty; do : >"$dev/$name"; mount --bind "/dev/$name" "$dev/$name"; done
        mkdir "$dev/pts" "$dev/shm" "$dev/mqueue"
        mount -t devpts -o newinstance,ptmxmode=0666,mode=0620 devpts "$dev/pts"
        mount -t mqueue mqueue "$dev/mqueue"; mount -t tmpfs tmpfs "$dev/shm"
        ln -s pts/ptmx "$dev/ptmx"; ln -s /proc/self/fd "$dev/fd"
        mount --rbind "$dev" /dev
        exec "$@"
        """

    private static let namespaceOptions = geteuid() == 0 ? "-pmnuif" : "-Urpmnuif"

    /// Why the agent cannot run here, or nil.
    static let obstacle: String? = {
        guard let size = try? FileManager.default.attributesOfItem(atPath: binary)[.size] as? Int, size > 0 else {
            return "the guest agent is not built (make guest)"
        }
        let probe = Process()
        probe.executableURL = URL(fileURLWithPath: "/usr/bin/unshare")
        probe.arguments = [namespaceOptions, "--mount-proc", "true"]
        probe.standardError = FileHandle.nullDevice
        do { try probe.run() } catch { return "unshare is missing: \(error)" }
        probe.waitUntilExit()
        return probe.terminationStatus == 0 ? nil : "namespaces are not permitted here"
    }()

    /// Whether the agent can run here; says so loudly when not.
    static let isPossible: Bool = {
        if let obstacle { print("SKIPPED: tests with a real agent: \(obstacle)") }
        return obstacle == nil
    }()

    init() throws {
        directory = FileManager.default.temporaryDirectory.appendingPathComponent("aurora-agent-\(UUID().uuidString.prefix(8))")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        process.executableURL = URL(fileURLWithPath: "/usr/bin/unshare")
        process.arguments = [
            AgentFixture.namespaceOptions, "--mount-proc", "--kill-child", "sh", "-c", AgentFixture.deviceScript, "sh", directory.path,
            AgentFixture.binary, "--test-socket", socketPath, "--test-etc", directory.path,
        ]
        try process.run()
    }

    deinit {
        process.terminate()
        kill(process.processIdentifier, SIGKILL)
        process.waitUntilExit()
        try? FileManager.default.removeItem(at: directory)
    }

    var socketPath: String { directory.appendingPathComponent("agent.sock").path }

    /// The exit status of the agent, once it ended.
    func waitForEnd() -> Int32 {
        process.waitUntilExit()
        return process.terminationStatus
    }

    /// A connected socket that has said nothing yet.
    func socket() throws -> OwnedDescriptor {
        let end = ContinuousClock.now + .seconds(120)
        while true {
            do {
                return try Socket.connect(unix: socketPath)
            } catch {
                guard ContinuousClock.now < end else { throw error }
                usleep(2_000)
            }
        }
    }

    /// Waits until something holds; what has not come to be within two minutes is a failure.
    func wait(for what: String, _ condition: () throws -> Bool) throws {
        for _ in 0..<6000 {
            if try condition() { return }
            usleep(20_000)
        }
        Issue.record("not within two minutes: \(what)")
    }

    /// A greeted client.
    func client() throws -> AgentClient { try AgentClient(adopting: try socket()) }

    /// Runs a command to its end.
    func run(
        _ arguments: [String], environment: [String] = [], directory: String = "", user: String = "", terminal: WindowSize? = nil,
        input: String? = nil
    ) throws -> (status: ExitStatus, output: String, error: String) {
        let request = StartRequest(
            arguments: arguments.map { Text($0) }, environment: environment.map { Text($0) }, directory: Text(directory), user: Text(user),
            terminal: terminal, wantsInput: input != nil)
        let session = try client().start(request)
        let (status, output, error) = try ExecRelay.collect(session, input: input.map { [UInt8]($0.utf8) })
        return (status, String(decoding: output, as: UTF8.self), String(decoding: error, as: UTF8.self))
    }
}

/// The testing library has a type of this name too.
typealias ExitStatus = AgentProtocol.ExitStatus
