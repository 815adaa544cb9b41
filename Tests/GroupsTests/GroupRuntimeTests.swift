import AgentProtocol
import CLinux
import Foundation
import Linux
import Synchronization
import Testing

@testable import Groups

@Suite(.enabled(if: AgentMachine.isAvailable, "the agent is not built: run make guest"), .timeLimit(.minutes(5)))
struct GroupRuntimeTests {
    @Test func outputStreamsAreApartAndLogged() throws {
        let group = try RunningGroup(["/bin/sh", "-c", "echo out; echo err >&2"])
        let end = try group.readToEnd()
        #expect(end.stdout == "out\n")
        #expect(end.stderr == "err\n")
        #expect(try ExitStatus(payload: end.last.payload) == ExitStatus(.code, 0))
        #expect(try group.exitCode() == 0)
        var reader = LogReader(path: group.directory.logPath)
        let records = try reader.next()
        #expect(
            Set(records.map { "\($0.stream.rawValue) \(String(decoding: $0.content, as: UTF8.self))" }) == ["stdout out", "stderr err"])
        let status = try group.directory.status()
        #expect(status.state == .exited)
        #expect(status.exitCode == 0)
        #expect(!FileManager.default.fileExists(atPath: group.directory.controlSocketPath))
    }

    @Test(arguments: [("exit 7", 7), ("kill -TERM $$", 143), ("kill -9 $$", 137)])
    func exitCodesPassThrough(_ script: String, _ code: Int32) throws {
        let group = try RunningGroup(["/bin/sh", "-c", script])
        #expect(try ExitStatus(payload: try group.readToEnd().last.payload).shellCode == code)
        #expect(try group.exitCode() == code)
        #expect(try group.directory.status().exitCode == code)
    }

    @Test(arguments: [("no-such-command", Failure.Code.commandNotFound, 127), ("/etc/passwd", Failure.Code.notExecutable, 126)])
    func commandsThatCannotStart(_ command: String, _ code: Failure.Code, _ exit: Int32) throws {
        let group = try RunningGroup([command])
        let last = try group.readToEnd().last
        #expect(try Failure(payload: last.payload).code == code)
        _ = try group.exitCode()
        #expect(try group.directory.status().state == .failed)
        #expect(try group.directory.status().exitCode == exit)
    }

    @Test func inputArrivesWithItsEnd() throws {
        let group = try RunningGroup(["/bin/cat"]) { $0.wantsInput = true }
        try group.waitUntil(.running)
        try group.send(.stdin, Array("hello\n".utf8))
        try group.send(.stdinEnd)
        #expect(try group.readToEnd().stdout == "hello\n")
        #expect(try group.exitCode() == 0)
    }

    @Test func tooMuchInputCutsTheClientOffOnly() throws {
        let group = try RunningGroup(["/bin/sh", "-c", "sleep 1; exit 3"]) { $0.wantsInput = true }
        try group.waitUntil(.running)
        for _ in 0..<6 { try? group.send(.stdin, [UInt8](repeating: 1, count: AgentLimits.framePayloadBytesMax)) }
        #expect(try group.exitCode() == 3)
    }

    @Test func stopUsesTheGroupsSignal() throws {
        let group = try RunningGroup(["/bin/sh", "-c", "trap 'exit 5' QUIT; trap 'exit 6' TERM; while :; do sleep 0.1; done"]) {
            $0.stopSignal = SIGQUIT
        }
        try group.waitUntil(.running)
        try ControlClient(group.directory).stop(graceSeconds: 60)
        #expect(try group.exitCode() == 5)
    }

    @Test func terminalHasItsSizeFromTheBegin() throws {
        let group = try RunningGroup(["/bin/sh", "-c", "stty size"], size: WindowSize(rows: 50, columns: 133)) { $0.terminal = true }
        #expect(try group.readToEnd().stdout == "50 133\r\n")
        #expect(try group.exitCode() == 0)
    }

    @Test func argumentsAndVariablesAreBytes() throws {
        let bytes = ByteText.string([0x61, 0xFF, 0xFE, 0x62])
        let group = try RunningGroup(["/bin/sh", "-c", "printf %s \"$0\" \"$X\" | od -An -tx1", bytes]) { $0.environment = ["X=\(bytes)"] }
        #expect(try group.readToEnd().stdout == " 61 ff fe 62 61 ff fe 62\n")
        #expect(try group.exitCode() == 0)
    }

    @Test func stopTerminatesThenKills() throws {
        let group = try RunningGroup(["/bin/sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"])
        try group.waitUntil(.running)
        try ControlClient(group.directory).stop(graceSeconds: 1)
        #expect(try group.exitCode() == 137)
    }

    @Test func killPassesAnySignal() throws {
        let group = try RunningGroup(["/bin/sh", "-c", "trap 'exit 9' USR1; while :; do sleep 0.05; done"])
        try group.waitUntil(.running)
        usleep(200_000)
        try ControlClient(group.directory).kill(signal: SIGUSR1)
        #expect(try group.exitCode() == 9)
    }

    @Test func controlSocketTellsAndRefuses() throws {
        let group = try RunningGroup(["/bin/sleep", "30"])
        try group.waitUntil(.running)
        let control = ControlClient(group.directory)
        #expect(try control.status().status.state == .running)
        #expect(try control.console() == "line one\nline two\n")
        let path = group.directory.controlSocketPath
        for (method, target, status) in [
            ("GET", "/", 404), ("GET", "/v1/pause", 405), ("POST", "/v1/resume", 200), ("POST", "/v1/kill?signal=99", 400),
            ("POST", "/v1/stop?seconds=-1", 400),
        ] {
            let parts = target.split(separator: "?")
            var request = HTTPRequest(method: method, path: String(parts[0]))
            if parts.count > 1 {
                let pair = parts[1].split(separator: "=")
                request.parameters = [String(pair[0]): String(pair[1])]
            }
            #expect(try HTTPClient.send(request, to: path).status == status, "\(method) \(target)")
        }
        try control.pause()
        #expect(try group.directory.status().state == .paused)
        #expect(try HTTPClient.send(HTTPRequest(method: "POST", path: "/v1/pause"), to: path).status == 409)
        try control.resume()
        try control.powerCut()
        #expect(try group.exitCode() == 137)
        #expect(throws: GroupError.self) { try control.status() }
    }

    @Test func panicIsReportedWithTheConsole() throws {
        let group = try RunningGroup(["/bin/sleep", "30"])
        try group.waitUntil(.running)
        group.endMachine(.panic("Attempted to kill init"))
        let failure = try Failure(payload: try group.readToEnd().last.payload)
        #expect(failure.subject.string.contains("Attempted to kill init"))
        #expect(failure.subject.string.contains("line two"))
        #expect(try group.exitCode() == 125)
        #expect(try group.directory.status().state == .failed)
    }

    @Test func silentAgentIsReportedWithTheConsole() throws {
        let group = try RunningGroup(["/bin/true"], AgentMachine.Behaviour(isSilent: true)) { $0.startTimeoutSeconds = 1 }
        let failure = try Failure(payload: try group.readToEnd().last.payload)
        #expect(failure.subject.string.contains("did not answer within 1 seconds"))
        #expect(failure.subject.string.contains("line two"))
        #expect(try group.exitCode() == 125)
    }

    @Test func removesItselfWhenAsked() throws {
        let group = try RunningGroup(["/bin/true"]) { $0.removeWhenEnded = true }
        _ = try group.readToEnd()
        #expect(try group.exitCode() == 0)
        // The end is told a moment before the last of its files has gone.
        let paths = [group.directory.path, group.directory.runtimePath]
        for _ in 0..<12_000 where paths.contains(where: FileManager.default.fileExists(atPath:)) { usleep(10_000) }
        for path in paths {
            #expect(!FileManager.default.fileExists(atPath: path), "\((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? [])")
        }
    }

    /// A rollback that comes while the runtime connects to the program after the last one cuts that off, and the group goes on.
    @Test func rollbacksMayFollowEachOtherAtOnce() throws {
        let group = try RunningGroup(["/bin/sleep", "30000"])
        try group.waitUntil(.running)
        let control = ControlClient(group.directory)
        for round in 0..<60 {
            try control.rollback(to: "latest")
            usleep(UInt32(round % 6 * round % 7 * 200))
        }
        #expect(try group.directory.status().restoreCount == 60)
        // The connection to the program is there again: a signal reaches it.
        try control.kill(signal: SIGTERM)
        #expect(try group.exitCode() == 128 + SIGTERM)
    }

    @Test func publishedPortGoesThroughTheAgentWithoutNetwork() throws {
        let server = try Socket.listen(address: 0x7F00_0001, port: 0)
        let port = try #require(Socket.port(of: server.rawValue))
        let group = try RunningGroup(["/bin/sleep", "30"]) { $0.ports = [PortMapping(hostPort: 0, guestPort: port)] }
        try group.waitUntil(.running)
        let hostPort = try #require(try group.directory.status().ports.first?.hostPort)
        let socket = try Socket.beginConnecting(address: 0x7F00_0001, port: hostPort)
        try Socket.setNonBlocking(socket.rawValue, false)
        _ = clinux_socket_timeouts(socket.rawValue, 10000)
        let accepted = OwnedDescriptor(adopting: Int32(clinux_accept_blocking(server.rawValue)))
        try DescriptorIO.writeAll([1, 2, 3], to: socket.rawValue, what: "port")
        var chunk: [UInt8] = [0, 0, 0, 0]
        #expect(try DescriptorIO.read(accepted.rawValue, into: &chunk, what: "server") == 3)
        try ControlClient(group.directory).powerCut()
        _ = try group.exitCode()
    }

    @Test func takenPortFailsBeforeTheMachineStarts() throws {
        let server = try Socket.listen(address: 0x7F00_0001, port: 0)
        let port = try #require(Socket.port(of: server.rawValue))
        let group = try RunningGroup(["/bin/true"]) { $0.ports = [PortMapping(hostPort: port, guestPort: 1)] }
        let failure = try Failure(payload: try group.readToEnd().last.payload)
        #expect(failure.subject.string.hasPrefix("Cannot listen on 127.0.0.1:\(port): Address already in use"))
        #expect(try group.exitCode() == 125)
        _ = server.rawValue
    }
}
