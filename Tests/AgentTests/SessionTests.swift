import AgentClient
import AgentProtocol
import Foundation
import Testing

/// Programs run by the real agent.
@Suite(.enabled(if: AgentFixture.isPossible)) struct SessionTests {
    @Test func separatesOutputsAndPassesTheExitCode() throws {
        let agent = try AgentFixture()
        let (status, output, error) = try agent.run(["sh", "-c", "echo out; echo err >&2; exit 7"])
        #expect(status == ExitStatus(.code, 7))
        #expect(output == "out\n")
        #expect(error == "err\n")
    }

    @Test func reportsTheSignalThatEndedAProgram() throws {
        let agent = try AgentFixture()
        let status = try agent.run(["sh", "-c", "kill -9 $$"]).status
        #expect(status == ExitStatus(.signal, 9))
        #expect(status.shellCode == 137)
    }

    @Test func tellsNotFoundFromNotExecutable() throws {
        let agent = try AgentFixture()
        for (program, code, exit) in [
            ("no-such-program", Failure.Code.commandNotFound, 127), ("/no/such", .commandNotFound, 127),
            ("/etc/passwd", .notExecutable, 126), ("/etc", .notExecutable, 126),
        ] {
            let error = #expect(throws: AgentError.self) { try agent.run([program]) }
            guard case .refused(let failure) = error else {
                Issue.record("\(program): \(String(describing: error))")
                continue
            }
            #expect(failure.code == code, "\(program)")
            #expect(error?.exitCode == Int32(exit), "\(program)")
        }
    }

    @Test func relaysInputUntilItsEnd() throws {
        let agent = try AgentFixture()
        let text = String(repeating: "0123456789abcdef\n", count: 100_000)
        let (status, output, _) = try agent.run(["cat"], input: text)
        #expect(status == ExitStatus(.code, 0))
        #expect(output == text)
    }

    @Test func programsThatDoNotReadDoNotBlockTheirInput() throws {
        let agent = try AgentFixture()
        let input = String(repeating: "x", count: 2_000_000)
        let (status, output, _) = try agent.run(["sh", "-c", "exec <&-; sleep 0.2; echo done"], input: input)
        #expect(status == ExitStatus(.code, 0))
        #expect(output == "done\n")
    }

    @Test func setsEnvironmentDirectoryAndUser() throws {
        let agent = try AgentFixture()
        let script = "echo $A $HOME $PATH; pwd; id -u; id -g"
        let output = try agent.run(["sh", "-c", script], environment: ["A=b"], directory: "/usr", user: "daemon").output
        let lines = output.split(separator: "\n")
        #expect(lines.first?.hasPrefix("b /usr/sbin /usr/local/sbin:") ?? false)
        #expect(lines.dropFirst() == ["/usr", "1", "1"])
        let unknown = #expect(throws: AgentError.self) { try agent.run(["true"], user: "nobody-of-this-name") }
        guard case .refused(let failure) = unknown else { throw CancellationError() }
        #expect(failure.code == .unknownUser)
        let nowhere = #expect(throws: AgentError.self) { try agent.run(["true"], directory: "/no/such/place") }
        guard case .refused(let failure) = nowhere else { throw CancellationError() }
        #expect(failure.code == .badDirectory)
    }

    /// `/dev/stdout` is `/proc/self/fd/1`: who opens it anew needs the rights of the pipe.
    @Test(arguments: ["", "daemon"]) func standardStreamsCanBeOpenedAnew(_ user: String) throws {
        let agent = try AgentFixture()
        let script = "cat /proc/self/fd/0 >/proc/self/fd/1; echo err >/proc/self/fd/2"
        let (status, output, error) = try agent.run(["sh", "-c", script], user: user, input: "in\n")
        #expect(status == ExitStatus(.code, 0), "\(error)")
        #expect(output == "in\n")
        #expect(error == "err\n")
    }

    @Test func givesProgramsACleanStart() throws {
        let agent = try AgentFixture()
        let script = """
            ls -l /proc/self/fd >&2; ls /proc/self/fd | wc -l
            grep -E '^Sig(Blk|Ign)' /proc/self/status | tr -d '\\n'; cat /proc/self/oom_score_adj
            """
        let (_, output, error) = try agent.run(["sh", "-c", script])
        // 0, 1, 2 and the directory being listed.
        #expect(output == "4\nSigBlk:\t0000000000000000SigIgn:\t00000000000000000\n", "\(error)")
    }

    @Test func givesATerminalThatCanBeResized() throws {
        let agent = try AgentFixture()
        let session = try agent.client().start(
            StartRequest(
                arguments: ["sh", "-c", "tty; stty size; trap 'stty size; exit 3' WINCH; echo ready; while :; do sleep 0.05; done"],
                terminal: WindowSize(rows: 24, columns: 80)))
        var output = ""
        var resized = false
        while true {
            let event = try session.next(timeout: .seconds(120))
            if case .output(let bytes) = event { output += String(decoding: bytes, as: UTF8.self) }
            if !resized, output.contains("ready") {
                resized = true
                try session.resize(WindowSize(rows: 50, columns: 132))
            }
            if case .exited(let status) = event {
                #expect(status == ExitStatus(.code, 3))
                break
            }
        }
        #expect(output.contains("/dev/pts/"))
        #expect(output.contains("24 80\r\n"))
        #expect(output.hasSuffix("50 132\r\n"))
    }

    @Test func endOfInputOfATerminalGrantsNoMoreThanTheWindow() throws {
        let agent = try AgentFixture()
        let session = try agent.client().start(
            StartRequest(arguments: ["sh", "-c", "cat; echo ended; sleep 100"], terminal: WindowSize(rows: 24, columns: 80)))
        try session.endInput()
        var output = ""
        while !output.contains("ended") {
            if case .output(let bytes) = try session.next(timeout: .seconds(120)) { output += String(decoding: bytes, as: UTF8.self) }
        }
        #expect(try session.send(input: [UInt8](repeating: 1, count: 1_000_000)) == AgentLimits.stdinWindowBytes)
        try session.signal(SIGKILL)
    }

    @Test func interruptsThroughTheTerminal() throws {
        let agent = try AgentFixture()
        let session = try agent.client().start(StartRequest(arguments: ["cat"], terminal: WindowSize(rows: 24, columns: 80)))
        #expect(try session.send(input: [3]) == 1)
        #expect(try ExecRelay.collect(session).status == ExitStatus(.signal, UInt8(SIGINT)))
    }

    @Test func signalsFromItsOwnAndAnotherConnection() throws {
        let agent = try AgentFixture()
        let first = try agent.client().start(StartRequest(arguments: ["sleep", "100"]))
        try first.signal(SIGTERM)
        #expect(try ExecRelay.collect(first).status == ExitStatus(.signal, UInt8(SIGTERM)))
        let second = try agent.client().start(StartRequest(arguments: ["sleep", "100"]))
        let other = try agent.client()
        try other.signal(SignalRequest(session: second.processNumber, signal: SIGKILL))
        #expect(try ExecRelay.collect(second).status == ExitStatus(.signal, UInt8(SIGKILL)))
        #expect(throws: AgentError.self) { try other.signal(SignalRequest(session: second.processNumber, signal: SIGKILL)) }
    }

    @Test func aSignalPassesInputThatIsStuck() throws {
        let agent = try AgentFixture()
        let session = try agent.client().start(StartRequest(arguments: ["sleep", "100"], wantsInput: true))
        // More than the pipe takes, so that the rest waits in the agent.
        let sent = try session.send(input: [UInt8](repeating: 1, count: 1_000_000))
        #expect(sent == AgentLimits.stdinWindowBytes)
        try session.signal(SIGTERM)
        #expect(try ExecRelay.collect(session).status == ExitStatus(.signal, UInt8(SIGTERM)))
    }

    @Test func aSlowReaderLosesNothing() throws {
        let agent = try AgentFixture()
        let session = try agent.client().start(StartRequest(arguments: ["head", "-c", "50000000", "/dev/zero"]))
        usleep(300_000)
        var count = 0
        while true {
            let event = try session.next(timeout: .seconds(120))
            if case .output(let bytes) = event {
                if count == 0 { usleep(100_000) }
                count += bytes.count
            }
            if case .exited(let status) = event {
                #expect(status == ExitStatus(.code, 0))
                break
            }
        }
        #expect(count == 50_000_000)
        // What waited for the slow reader was in the program's pipe, not in the agent.
        let resident = try agent.run(["sh", "-c", "grep VmHWM /proc/1/status"]).output.filter(\.isNumber)
        #expect((Int(resident) ?? .max) < 8_000, "agent's peak resident memory in KiB")
    }

    @Test func runsTwoHundredProgramsAtOnce() async throws {
        let agent = try AgentFixture()
        let sessions = try (0..<200).map { number in
            try agent.client().start(StartRequest(arguments: ["sh", "-c", Text("echo \(number); exit \(number)")]))
        }
        for (number, session) in sessions.enumerated() {
            let (status, output, _) = try ExecRelay.collect(session)
            #expect(status == ExitStatus(.code, UInt8(number)))
            #expect(output == [UInt8]("\(number)\n".utf8))
        }
    }

    @Test func doesNotWaitForChildrenThatKeepTheOutputOpen() throws {
        let agent = try AgentFixture()
        let (status, output, _) = try agent.run(["sh", "-c", "sleep 98765 & echo started"])
        #expect(status == ExitStatus(.code, 0))
        #expect(output == "started\n")
    }

    @Test func reapsOrphans() throws {
        let agent = try AgentFixture()
        _ = try agent.run(["sh", "-c", "for i in 1 2 3 4 5; do (true &) ; done; (sleep 0.1 &)"])
        // The last orphan ends after its parents: it, too, is reaped.
        try agent.wait(for: "the end of all orphans, and no zombie") {
            try agent.run(["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' ' | grep -c '[s]leep 0.1'"]).output == "0\n"
                && agent.run(["sh", "-c", "grep -l '^State:.Z' /proc/[0-9]*/status | wc -l"]).output == "0\n"
        }
    }

    @Test func hangsUpWhenTheClientIsGone() throws {
        let agent = try AgentFixture()
        do {
            let session = try agent.client().start(StartRequest(arguments: ["sleep", "54321"]))
            #expect(session.processNumber > 1)
        }
        try agent.wait(for: "the end of the program") {
            try agent.run(["sh", "-c", "grep -l '[5]4321' /proc/[0-9]*/cmdline | grep -v \"/$$/\" | wc -l"]).output == "0\n"
        }
    }

    @Test func anApplicationSurvivesItsClientAndIsAttachedTo() throws {
        let agent = try AgentFixture()
        var number: Int32 = 0
        do {
            let session = try agent.client().start(
                StartRequest(arguments: ["sh", "-c", "read line; echo got $line; exit 5"], wantsInput: true, survivesDisconnect: true))
            number = session.processNumber
        }
        usleep(50_000)
        let session = try agent.client().attach(session: number)
        let (status, output, _) = try ExecRelay.collect(session, input: [UInt8]("hello\n".utf8))
        #expect(status == ExitStatus(.code, 5))
        #expect(output == [UInt8]("got hello\n".utf8))
        // A host that goes on from a checkpoint taken now asks again.
        for _ in 0..<2 {
            let again = try ExecRelay.collect(agent.client().attach(session: number))
            #expect(again.status == ExitStatus(.code, 5) && again.output.isEmpty)
        }
        #expect(throws: AgentError.self) { try agent.client().attach(session: number + 1) }
    }

    @Test func outputThatWasOnItsWayIsSentAgain() throws {
        let agent = try AgentFixture()
        let script: Text = "printf one; sleep 0.1; printf two >&2; read line; printf three; exit 6"
        let first = try agent.client().start(
            StartRequest(arguments: ["sh", "-c", script], wantsInput: true, survivesDisconnect: true))
        let number = first.processNumber
        usleep(500_000)
        // A client that had two bytes of output gets the others, from both streams; what is new follows.
        let (status, output, errors) = try ExecRelay.collect(
            try agent.client().attach(session: number, receivedBytes: 2), input: [UInt8]("x\n".utf8))
        #expect(status == ExitStatus(.code, 6))
        #expect(output == [UInt8]("ethree".utf8))
        #expect(errors == [UInt8]("two".utf8))
    }

    @Test func anEndIsKeptForTheNextClient() throws {
        let agent = try AgentFixture()
        var number: Int32 = 0
        do {
            number = try agent.client().start(
                StartRequest(arguments: ["sh", "-c", "sleep 0.1; echo last words; exit 9"], survivesDisconnect: true)
            ).processNumber
        }
        usleep(300_000)
        let (status, output, _) = try ExecRelay.collect(try agent.client().attach(session: number))
        #expect(status == ExitStatus(.code, 9))
        #expect(output == [UInt8]("last words\n".utf8))
    }
}
