import AgentProtocol
import CLinux
import Foundation
import Linux
import Synchronization
import Testing

@testable import Groups

/// Something one thread waits for and another lets happen.
private final class Gate: Sendable {
    private let queue: EventQueue<Bool>
    init() throws { queue = try EventQueue() }
    func open() { queue.push(true) }
    func pass() { _ = queue.next(timeoutMilliseconds: 120_000) }
}

/// What a thread of the test's own found out.
private final class Answer: Sendable {
    private let result: EventQueue<Result<String, GroupError>>

    init(_ body: @escaping @Sendable () throws(GroupError) -> String) throws {
        let queue = try EventQueue<Result<String, GroupError>>()
        result = queue
        try DetachedThread.start("asks") {
            do throws(GroupError) { queue.push(.success(try body())) } catch { queue.push(.failure(error)) }
        }
    }

    func get(within milliseconds: Int32 = 120_000) -> Result<String, GroupError>? { result.next(timeoutMilliseconds: milliseconds) }
}

/// Orders that meet each other in the life of a group.
@Suite(.enabled(if: AgentMachine.isAvailable, "the agent is not built: run make guest"), .timeLimit(.minutes(5)))
struct GroupLifeTests {
    /// A pause during a rollback is done after it: what it acknowledges is so, and stays so.
    @Test func pauseWaitsForARollback() throws {
        let (begun, goes) = (try Gate(), try Gate())
        var behaviour = AgentMachine.Behaviour()
        behaviour.inRollback = {
            begun.open()
            goes.pass()
        }
        let group = try RunningGroup(["/bin/sleep", "30000"], behaviour) { $0.startTimeoutSeconds = 1 }
        try group.waitUntil(.running)
        let control = ControlClient(group.directory)
        let rollback = try Answer { () throws(GroupError) in
            try control.rollback(to: "latest")
            return "back"
        }
        begun.pass()
        let pause = try Answer { () throws(GroupError) in
            try control.pause()
            return "paused"
        }
        #expect(pause.get(within: 300) == nil, "acknowledged while the rollback was under way")
        goes.open()
        #expect(try rollback.get()?.get() == "back")
        #expect(try pause.get()?.get() == "paused")
        #expect(try group.directory.status().state == .paused)
        // Longer than an agent may take to answer: a guest that stands still because somebody wants that has not failed.
        usleep(2_500_000)
        #expect(try control.status().status.state == .paused)
        try control.resume()
        #expect(try control.status().status.state == .running)
        try group.waitUntil("the signal arrives") { (try? control.kill(signal: SIGTERM)) != nil }
        #expect(try group.exitCode() == 128 + SIGTERM)
    }

    /// A checkpoint that a rollback takes along says so; one asked for during a rollback waits for it.
    @Test func checkpointBesideARollback() throws {
        let (begun, goes) = (try Gate(), try Gate())
        let isFirst = Mutex(true)
        var behaviour = AgentMachine.Behaviour()
        behaviour.inCheckpoint = {
            let first = isFirst.withLock { first in
                defer { first = false }
                return first
            }
            guard first else { return }
            begun.open()
            goes.pass()
            throw GroupError(.host, "the pipeline was stopped")
        }
        let group = try RunningGroup(["/bin/sleep", "30000"], behaviour)
        try group.waitUntil(.running)
        let control = ControlClient(group.directory)
        let checkpoint = try Answer { () throws(GroupError) in "\(try control.checkpoint().number)" }
        begun.pass()
        try control.rollback(to: "latest")
        goes.open()
        guard case .failure(let error)? = checkpoint.get() else {
            Issue.record("the checkpoint was taken")
            return
        }
        #expect(error.message.contains("was rolled back meanwhile"), "\(error)")
        #expect(try control.checkpoint().number == 1)
        try control.powerCut()
        _ = try group.exitCode()
    }

    /// The last checkpoint is taken before the program is told; after it nothing is, and nothing holds the program up.
    @Test func stopTakesALastCheckpoint() throws {
        let (begun, goes) = (try Gate(), try Gate())
        var behaviour = AgentMachine.Behaviour()
        behaviour.inLast = {
            begun.open()
            goes.pass()
        }
        let group = try RunningGroup(["/bin/sh", "-c", "trap 'echo told' TERM; echo up; while :; do sleep 0.05; done"], behaviour)
        try group.waitUntil(.running)
        func log() throws -> String {
            var reader = LogReader(path: group.directory.logPath)
            return try reader.next().map { String(decoding: $0.content, as: UTF8.self) }.joined(separator: ",")
        }
        try group.waitUntil("the program runs") { try log() == "up" }
        let control = ControlClient(group.directory)
        try control.stop(graceSeconds: 3600)
        begun.pass()
        #expect(try log() == "up")
        goes.open()
        try group.waitUntil("the program is told") { try log().hasSuffix("told") }
        for attempt in [{ _ = try control.checkpoint() }, { try control.rollback(to: "latest") }, { try control.pause() }]
            as [() throws -> Void]
        {
            let error = #expect(throws: GroupError.self) { try attempt() }
            #expect(error?.message.hasPrefix("Group g is being stopped\n") == true, "\(String(describing: error))")
        }
        // Who asks once more may grant less.
        try control.stop(graceSeconds: 0)
        #expect(try group.exitCode() == 137)
    }

    @Test func stopGoesOnWithoutALastCheckpoint() throws {
        var behaviour = AgentMachine.Behaviour()
        behaviour.inLast = { throw GroupError(.host, "there is no room") }
        let group = try RunningGroup(["/bin/sleep", "30000"], behaviour)
        try group.waitUntil(.running)
        try ControlClient(group.directory).stop(graceSeconds: 60)
        #expect(try group.exitCode() == 128 + SIGTERM)
        let messages = try group.directory.status().warnings.map(\.message)
        #expect(messages.contains { $0.contains("No last checkpoint was made") && $0.contains("no room") })
    }

    /// A program that is told to end during a rollback is told when the guest is there again.
    @Test func stopDuringARollbackArrives() throws {
        let (begun, goes) = (try Gate(), try Gate())
        var behaviour = AgentMachine.Behaviour()
        behaviour.inRollback = {
            begun.open()
            goes.pass()
        }
        let group = try RunningGroup(["/bin/sh", "-c", "trap 'exit 7' TERM; while :; do sleep 0.05; done"], behaviour)
        try group.waitUntil(.running)
        let control = ControlClient(group.directory)
        let rollback = try Answer { () throws(GroupError) in
            try control.rollback(to: "latest")
            return "back"
        }
        begun.pass()
        try control.stop(graceSeconds: 600)
        goes.open()
        #expect(try rollback.get()?.get() == "back")
        #expect(try group.exitCode() == 7)
    }

    /// A connection to the agent that ends while a rollback begins is not the end of the group.
    @Test func lossOfTheAgentBeforeARollback() throws {
        var behaviour = AgentMachine.Behaviour()
        // Longer than a loss waits for what explains it.
        behaviour.inRollback = { usleep(1_500_000) }
        let group = try RunningGroup(["/bin/sleep", "30000"], behaviour)
        try group.waitUntil(.running)
        let control = ControlClient(group.directory)
        group.cutAgent()
        try control.rollback(to: "latest")
        try group.waitUntil("the signal arrives") { (try? control.kill(signal: SIGTERM)) != nil }
        #expect(try group.exitCode() == 128 + SIGTERM)
    }

    /// Who finds the group's lock free finds its ports free, also while the last output is still being handed to a slow client.
    @Test func portsAreFreeWithTheLock() throws {
        let group = try RunningGroup(["/bin/sh", "-c", "head -c 3000000 /dev/zero; sleep 30000"]) {
            $0.ports = [PortMapping(hostPort: 0, guestPort: 1)]
        }
        try group.waitUntil(.running)
        let port = try #require(try group.directory.status().ports.first?.hostPort)
        try ControlClient(group.directory).powerCut()
        try group.waitUntil("its end") { try !group.directory.isLive() }
        let listener = try Socket.listen(address: 0x7F00_0001, port: port)
        _ = listener.rawValue
        _ = try group.readToEnd()
        _ = try group.exitCode()
    }
}

/// A guest whose agent does not keep to the protocol.
@Suite(.timeLimit(.minutes(5))) struct HostileAgentTests {
    /// An agent that starts a program as it should, and then sends what it likes.
    private static func agent(_ flood: @escaping @Sendable (SharedDescriptor) -> Void) -> AgentMachine.Behaviour {
        var behaviour = AgentMachine.Behaviour()
        behaviour.agent = { client in
            guard AgentMachine.port(of: client) != nil else { return }
            _ = "OK 5000\n".withCString { clinux_send(client.rawValue, $0, 8) }
            var decoder = FrameDecoder()
            var chunk = [UInt8](repeating: 0, count: 65536)
            while true {
                let count = clinux_recv(client.rawValue, &chunk, chunk.count)
                guard count > 0 else { return }
                decoder.append(chunk[..<count])
                while let frame = try? decoder.next() {
                    let answer: (MessageType, [UInt8]) =
                        switch frame.type {
                        case .hello: (.welcome, Welcome(version: agentProtocolVersion, uptimeNanoseconds: 1, kernelRelease: "6.1").encoded)
                        case .start: (.started, SessionNumber(7).encoded)
                        default: (.done, [])
                        }
                    send(answer.0, answer.1, client, request: frame.request)
                    if frame.type == .start { return flood(client) }
                }
            }
        }
        return behaviour
    }

    @discardableResult
    private static func send(
        _ type: MessageType, _ payload: [UInt8], _ client: SharedDescriptor, request: UInt32 = 1, times: Int = 1
    ) -> Bool {
        var bytes: [UInt8] = []
        for _ in 0..<times { Frame.appendMessage(type, request: request, payload: payload, to: &bytes) }
        return (try? DescriptorIO.sendAll(bytes, to: client.rawValue, what: "runtime")) != nil
    }

    /// Frames out of order end the connection, and with it the group, at once; nothing of them is kept.
    @Test(arguments: [MessageType.started, .welcome, .failed, .exited, .objectReport, .stdinCredit])
    func framesOutOfOrderEndTheConnection(type: MessageType) throws {
        let payload =
            switch type {
            case .started: SessionNumber(7).encoded
            case .exited: ExitStatus(.code, 3).encoded
            case .failed: Failure(.system, "no").encoded
            case .stdinCredit: StdinCredit(0).encoded
            default: [] as [UInt8]
            }
        let isOver = Mutex(false)
        let group = try RunningGroup(
            ["/bin/true"],
            HostileAgentTests.agent { client in
                while HostileAgentTests.send(type, payload, client, times: 1000) {}
                isOver.withLock { $0 = true }
            })
        let last = try group.readToEnd().last
        if type == .exited {
            // The first one is in order, and the end.
            #expect(try group.exitCode() == 3)
        } else {
            let failure = try Failure(payload: last.payload)
            let text = failure.subject.string
            #expect(text.contains("connection to the guest's agent was lost"), "\(text)")
            #expect(try group.exitCode() == 125)
        }
        try group.waitUntil("the agent is cut off") { isOver.withLock { $0 } }
    }

    /// A program that is allowed to write does so without end: orders are obeyed all the same.
    @Test func ordersComeThroughAFloodOfOutput() throws {
        // What ends with its process in real life goes on in this one: the flood ends with the test.
        let isOver = Mutex(false)
        let behaviour = HostileAgentTests.agent { client in
            while !isOver.withLock({ $0 }), HostileAgentTests.send(.stdout, [], client, times: 1000) {}
        }
        defer { isOver.withLock { $0 = true } }
        for isCut in [true, false] {
            let group = try RunningGroup(["/bin/true"], behaviour)
            try group.waitUntil(.running)
            let control = ControlClient(group.directory)
            if isCut { try control.powerCut() } else { try control.stop(graceSeconds: 0) }
            #expect(try ExitStatus(payload: try group.readToEnd().last.payload).shellCode == 137)
            #expect(try group.exitCode() == 137)
        }
    }

    /// An agent that reads nothing makes its client wait; what the client sends is not kept without limit.
    @Test func anAgentThatDoesNotReadHoldsTheClientBack() throws {
        let (done, over) = (try Gate(), try Gate())
        let group = try RunningGroup(
            ["/bin/true"],
            HostileAgentTests.agent { _ in
                done.open()
                over.pass()
            })
        try group.waitUntil(.running)
        done.pass()
        try Socket.setNonBlocking(group.client.rawValue)
        var bytes: [UInt8] = []
        for _ in 0..<1000 { Frame.appendMessage(.resize, request: 1, payload: WindowSize(rows: 24, columns: 80).encoded, to: &bytes) }
        var taken = 0
        var idle = 0
        // Until nothing more is taken for a second, or far more than all queues may hold is.
        while idle < 100, taken < 64 << 20 {
            let sent = clinux_send(group.client.rawValue, bytes, bytes.count)
            if sent > 0 {
                (taken, idle) = (taken + sent, 0)
            } else {
                idle += 1
                usleep(10_000)
            }
        }
        #expect(taken < 16 << 20, "\(taken) bytes were taken for an agent that reads nothing")
        try ControlClient(group.directory).powerCut()
        #expect(try group.exitCode() == 137)
        over.open()
    }
}
