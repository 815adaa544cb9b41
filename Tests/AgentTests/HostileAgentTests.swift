import AgentClient
import AgentProtocol
import CLinux
import Foundation
import Linux
import Testing

/// The host's client against an agent that lies: typed errors, no trap, no wait without end.
@Suite struct HostileAgentTests {
    private static let seed = UInt64.random(in: 1 ... .max)

    /// Gives `body` a client whose agent says exactly `bytes`, and returns the error that this ends with.
    ///
    /// The agent ends its side after the last byte unless it `staysOpen`.
    private func error(_ bytes: [UInt8], staysOpen: Bool = false, _ body: (AgentClient) throws -> Void) -> AgentError? {
        var ends: [Int32] = [-1, -1]
        #expect(clinux_socketpair(&ends) == 0)
        let (near, far) = (ends[0], ends[1])
        let said = DispatchSemaphore(value: 0)
        Thread {
            StreamHelper.sayAll(bytes, to: far, ends: !staysOpen)
            said.signal()
        }.start()
        // The number must not be closed, and so perhaps reused, while the thread still writes to it.
        defer {
            said.wait()
            close(far)
        }
        do {
            try body(try AgentClient(adopting: OwnedDescriptor(adopting: near), timeout: .seconds(5)))
            return nil
        } catch { return error as? AgentError }
    }

    private var welcome: [UInt8] {
        stream([Frame(.welcome, request: 1, payload: Welcome(version: 1, uptimeNanoseconds: 0, kernelRelease: "k").encoded)])
    }

    private func stream(_ frames: [Frame]) -> [UInt8] {
        var bytes: [UInt8] = []
        for frame in frames { frame.append(to: &bytes) }
        return bytes
    }

    @Test func liesAreNamed() {
        let ping: (AgentClient) throws -> Void = { try $0.ping() }
        #expect(error([], ping) == .disconnected("greet the guest's agent"))
        #expect(error([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16], ping) == .fault(ProtocolFault(.badMagic)))
        #expect(error(stream([Frame(.done, request: 1)]), ping) == .fault(ProtocolFault(.outOfOrder, at: 2)))
        #expect(error(welcome, ping) == .disconnected("reach the guest's agent"))
        #expect(error(welcome + stream([Frame(.done, request: 7)]), ping) == .fault(ProtocolFault(.outOfOrder, at: 2)))
        #expect(error(welcome + stream([Frame(.done, request: 2, payload: [1])]), ping) == .fault(ProtocolFault(.trailingBytes)))
        #expect(error(welcome + stream([Frame(.ping, request: 2)]), ping) == .fault(ProtocolFault(.outOfOrder, at: 2)))
        let failed = Failure(.system, errno: 1, "do it").encoded
        let refused = error(welcome + stream([Frame(.failed, request: 2, payload: failed)]), ping)
        #expect(refused?.description == "Cannot do it: Operation not permitted")
        let newer = Welcome(version: 2, uptimeNanoseconds: 0, kernelRelease: "k").encoded
        #expect(error(stream([Frame(.welcome, request: 1, payload: newer)]), ping) == .fault(ProtocolFault(.versionMismatch)))
    }

    @Test func silenceEndsWithATimeOut() {
        let start = ContinuousClock.now
        let found = error(welcome, staysOpen: true) { try $0.ping(timeout: .milliseconds(100)) }
        #expect(found == .timedOut("reach the guest's agent"))
        #expect(ContinuousClock.now - start < .seconds(3))
    }

    @Test func anEndlessReportIsCutOff() {
        let part = Frame(.objectReport, request: 2, hasMore: true, payload: [UInt8](repeating: 0, count: AgentLimits.framePayloadBytesMax))
        let parts = stream([Frame](repeating: part, count: AgentLimits.replyBytesMax / AgentLimits.framePayloadBytesMax + 2))
        #expect(error(welcome + parts) { _ = try $0.objects() } == .fault(ProtocolFault(.tooLong)))
    }

    @Test func sessionsRefuseWhatDoesNotBelongToThem() {
        let started = Frame(.started, request: 2, payload: SessionNumber(5).encoded)
        for (bad, expected) in [
            (Frame(.stdout, request: 9, payload: [1]), ProtocolFault(.outOfOrder, at: 4)),
            (Frame(.welcome, request: 2), ProtocolFault(.outOfOrder, at: 2)),
            (Frame(.exited, request: 2, payload: [2, 0]), .init(.badValue, at: 0)),
            (Frame(.stdinCredit, request: 2, payload: StdinCredit(1).encoded), .init(.windowExceeded)),
        ] {
            let found = error(welcome + stream([started, bad])) {
                _ = try $0.start(StartRequest(arguments: ["x"])).next(timeout: .seconds(120))
            }
            #expect(found == .fault(expected))
        }
    }

    @Test func mutatedAnswersNeverTrap() {
        print("HostileAgentTests seed=\(Self.seed)")
        var random = SeededGenerator(seed: Self.seed)
        var report = ObjectReport()
        report.processes = [ProcessObject(), ProcessObject()]
        report.descriptors = [DescriptorObject()]
        let valid = welcome + stream([Frame(.objectReport, request: 2, payload: report.encoded)])
        for _ in 0..<200 {
            var bytes = valid
            for _ in 0..<Int.random(in: 1...4, using: &random) {
                bytes[Int.random(in: 0..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            _ = error(bytes) { client in _ = PeerIndex(try client.objects()) }
        }
    }

    @Test func exitCodesFollowContainerTools() {
        #expect(AgentError.refused(Failure(.commandNotFound, "x")).exitCode == 127)
        #expect(AgentError.refused(Failure(.notExecutable, "x")).exitCode == 126)
        #expect(AgentError.timedOut("x").exitCode == 125)
    }
}
