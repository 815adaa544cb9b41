import AgentClient
import AgentProtocol
import Foundation
import Linux
import Testing

/// The real agent against clients that break the protocol: each is told or dropped, and the agent serves on.
@Suite(.enabled(if: AgentFixture.isPossible)) struct HostileClientTests {
    private static let seed = UInt64.random(in: 1 ... .max)

    private func answer(_ agent: AgentFixture, _ bytes: [UInt8]) throws -> [UInt8] {
        let socket = try agent.socket()
        StreamHelper.writeAll(bytes, to: socket.rawValue)
        return StreamHelper.readToEnd(socket.rawValue)
    }

    private func frames(_ bytes: [UInt8]) throws -> [Frame] {
        var decoder = FrameDecoder()
        decoder.append(bytes)
        var frames: [Frame] = []
        while let frame = try decoder.next() { frames.append(frame) }
        return frames
    }

    private func stream(_ frames: [Frame]) -> [UInt8] {
        var bytes: [UInt8] = []
        for frame in frames { frame.append(to: &bytes) }
        return bytes
    }

    @Test func faultsAreNamedAndEndTheConnection() throws {
        let agent = try AgentFixture()
        let hello = Frame(.hello, request: 1, payload: Hello().encoded)
        let cases: [(String, [Frame])] = [
            ("no greeting", [Frame(.ping, request: 1)]), ("an answer", [hello, Frame(.done, request: 2)]),
            ("a second greeting", [hello, hello]),
            ("a short payload", [hello, Frame(.signal, request: 2, payload: [1])]),
            ("a payload for ping's neighbour", [hello, Frame(.setClock, request: 2)]),
            ("interrupted parts", [hello, Frame(.start, request: 2, hasMore: true, payload: [1]), Frame(.ping, request: 3)]),
        ]
        for (name, sent) in cases {
            let received = try frames(answer(agent, stream(sent)))
            let last = try #require(received.last, "\(name)")
            #expect(last.type == .failed && last.request == 0, "\(name)")
            #expect(try Failure(payload: last.payload).code == .protocolFault, "\(name)")
        }
        try agent.client().ping()
    }

    @Test func anUnknownVersionIsRefused() throws {
        let agent = try AgentFixture()
        let hello = Frame(.hello, request: 1, payload: Hello(oldestVersion: 7, newestVersion: 9).encoded)
        let received = try frames(answer(agent, stream([hello])))
        #expect(try Failure(payload: try #require(received.first).payload).code == .versionMismatch)
    }

    @Test func inputBeyondTheWindowEndsTheSession() throws {
        let agent = try AgentFixture()
        let start = StartRequest(arguments: ["sleep", "100"], wantsInput: true)
        var sent = [Frame(.hello, request: 1, payload: Hello().encoded), Frame(.start, request: 2, payload: start.encoded)]
        for _ in 0..<20 { sent.append(Frame(.stdin, request: 2, payload: [UInt8](repeating: 1, count: 65_536))) }
        let received = try frames(answer(agent, stream(sent)))
        #expect(try Failure(payload: try #require(received.last).payload).code == .protocolFault)
        try agent.client().ping()
    }

    @Test func endlessRequestsAreCutOff() throws {
        let agent = try AgentFixture()
        var sent = [Frame(.hello, request: 1, payload: Hello().encoded)]
        for _ in 0..<40 { sent.append(Frame(.start, request: 2, hasMore: true, payload: [UInt8](repeating: 0, count: 65_536))) }
        let received = try frames(answer(agent, stream(sent)))
        #expect(received.last?.type == .failed)
        try agent.client().ping()
    }

    @Test func randomAndMutatedStreamsDoNotEndTheAgent() throws {
        print("HostileClientTests seed=\(Self.seed)")
        let agent = try AgentFixture()
        var random = SeededGenerator(seed: Self.seed)
        let start = StartRequest(arguments: ["cat"], terminal: WindowSize(rows: 1, columns: 1), wantsInput: true)
        let valid = stream([
            Frame(.hello, request: 1, payload: Hello().encoded), Frame(.start, request: 2, payload: start.encoded),
            Frame(.stdin, request: 2, payload: [4]), Frame(.resize, request: 2, payload: WindowSize(rows: 9, columns: 9).encoded),
            Frame(.objects, request: 3, payload: ObjectsRequest().encoded), Frame(.attach, request: 4, payload: SessionNumber(9).encoded),
            Frame(.proxy, request: 5, payload: ProxyRequest(port: 1).encoded),
        ])
        for step in 0..<300 {
            var bytes = valid
            for _ in 0..<Int.random(in: 1...5, using: &random) {
                bytes[Int.random(in: 20..<bytes.count, using: &random)] = UInt8.random(in: 0...255, using: &random)
            }
            let socket = try agent.socket()
            StreamHelper.writeAll([UInt8](bytes.prefix(Int.random(in: 0...bytes.count, using: &random))), to: socket.rawValue)
            if step % 50 == 0 { try agent.client().ping() }
        }
        #expect(try agent.run(["echo", "alive"]).output == "alive\n")
    }

    @Test func clientsThatVanishLeaveNothingBehind() throws {
        let agent = try AgentFixture()
        for _ in 0..<100 {
            let session = try agent.client().start(StartRequest(arguments: ["cat", "/dev/zero"], wantsInput: true))
            _ = try session.next(timeout: .seconds(120))
        }
        try agent.wait(for: "the end of all programs") { try agent.client().objects(ObjectsRequest.processes).processes.count == 1 }
        #expect(try agent.run(["sh", "-c", "ls /proc/1/fd | wc -l"]).output.filter(\.isNumber).count <= 2)
    }
}
