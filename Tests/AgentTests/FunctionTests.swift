import AgentClient
import AgentProtocol
import Foundation
import Testing

/// The Lambda runtime API and the host's channel, with the very agent that guests run.
@Suite(.enabled(if: AgentFixture.isPossible), .serialized, .timeLimit(.minutes(10))) struct FunctionTests {
    private static let limit = Duration.seconds(120)

    /// The next whole answer.
    private func outcome(_ channel: FunctionChannel) throws -> FunctionOutcome {
        var collector = FunctionAnswerCollector()
        while true {
            if let whole = collector.add(try channel.next(timeout: Self.limit)) { return whole }
        }
    }

    /// A runtime that stands at `invocation/next`.
    private func ready(_ fixture: FunctionFixture) throws -> RuntimeClient {
        let runtime = try fixture.runtime()
        runtime.get("invocation/next")
        #expect(try fixture.channel.waitUntilReady(timeout: Self.limit).phase == .invocationNext)
        return runtime
    }

    @Test func servesRequestsOneAfterTheOther() throws {
        let fixture = try FunctionFixture()
        let runtime = try ready(fixture)
        for number in 1...3 {
            let event = [UInt8]("{\"n\":\(number)}".utf8)
            let identifier = "r-\(number)"
            try fixture.channel.send([.invoke(FunctionFixture.request(Text(identifier), context: "{\"a\":1}"), event)])
            let next = try #require(runtime.answer())
            #expect(next.status == 200)
            #expect(next.body == event)
            for line in [
                "Lambda-Runtime-Aws-Request-Id: \(identifier)", "Lambda-Runtime-Deadline-Ms: 1700000000000",
                "Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:f", "Lambda-Runtime-Trace-Id: Root=1",
                "Lambda-Runtime-Client-Context: {\"a\":1}",
            ] { #expect(next.head.contains(line)) }
            #expect(!next.head.contains("Cognito"))
            runtime.post("invocation/wrong/response", [1])
            #expect(runtime.answer()?.status == 400)
            runtime.post("invocation/\(identifier)/response", event + event, headers: "Content-Type: text/x\r\n")
            #expect(runtime.answer()?.status == 202)
            runtime.get("invocation/next")
            let whole = try outcome(fixture.channel)
            #expect(whole.payload == event + event)
            #expect(whole.answer == FunctionAnswer(.response, requestIdentifier: Text(identifier), contentType: "text/x"))
            #expect(whole.end.outcome == .complete)
            #expect(whole.end.durationNanoseconds > 0)
        }
    }

    @Test func aRestoredRuntimeGoesOnWithTheRequestThatCameAlong() throws {
        let fixture = try FunctionFixture()
        let runtime = try fixture.runtime()
        runtime.get("restore/next")
        #expect(try fixture.channel.waitUntilReady(timeout: Self.limit).phase == .restoreNext)
        // A new host finds the state as it was, and may send everything at once.
        let second = try FunctionFixture.connect(fixture.agent)
        try second.send([.attach, .restored(FunctionRestored()), .invoke(FunctionFixture.request(), [7])])
        #expect(try second.next(timeout: Self.limit) == .state(.restoreNext))
        #expect(runtime.answer()?.status == 200)
        runtime.get("invocation/next")
        #expect(runtime.answer()?.body == [7])
        runtime.post("invocation/r-1/error", [8], headers: "Lambda-Runtime-Function-Error-Type: Runtime.Odd\r\n")
        let whole = try outcome(second)
        #expect(whole.answer == FunctionAnswer(.error, requestIdentifier: "r-1", errorType: "Runtime.Odd"))
        #expect(whole.payload == [8])
        // The first host's connection ended.
        #expect(throws: AgentError.self) { while true { _ = try fixture.channel.next(timeout: Self.limit) } }
    }

    @Test func aWarmRuntimeIsToldWhichFunctionItIs() throws {
        let fixture = try FunctionFixture()
        let runtime = try fixture.runtime()
        runtime.get("aurora/start")
        #expect(try fixture.channel.waitUntilReady(timeout: Self.limit).phase == .warm)
        try fixture.channel.start(FunctionStart(arguments: ["/bin/x", "y"], environment: ["A=b"], directory: "/var/task"))
        let told = try #require(runtime.answer())
        #expect(told.status == 200)
        #expect(String(decoding: told.body, as: UTF8.self) == "/var/task\0\02\0/bin/x\0y\0A=b\0AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001")
        runtime.get("restore/next")
        #expect(try fixture.channel.waitUntilReady(timeout: Self.limit).phase == .restoreNext)
    }

    @Test func aWarmRuntimeIsToldWhoItsFunctionIs() throws {
        let fixture = try FunctionFixture()
        let runtime = try fixture.runtime()
        runtime.get("aurora/start")
        #expect(try fixture.channel.waitUntilReady(timeout: Self.limit).phase == .warm)
        let unknown = FunctionStart(arguments: ["x"], user: "nobody-of-this-name")
        #expect(throws: FunctionError.agent(.refused(Failure(.unknownUser, "nobody-of-this-name")))) {
            try fixture.channel.start(unknown)
        }
        try fixture.channel.start(FunctionStart(arguments: ["x"], user: "1234:99"))
        let told = try #require(runtime.answer())
        #expect(String(decoding: told.body, as: UTF8.self) == "/\01234 99\01\0x\0AWS_LAMBDA_RUNTIME_API=127.0.0.1:9001".dropFirst())
    }

    @Test func restoreAloneWaitsForTheRuntime() throws {
        let fixture = try FunctionFixture()
        let runtime = try fixture.runtime()
        runtime.get("restore/next")
        _ = try fixture.channel.waitUntilReady(timeout: Self.limit)
        try fixture.channel.send([.restored(FunctionRestored())])
        #expect(runtime.answer()?.status == 200)
        runtime.post("restore/error", [UInt8]("{\"errorType\":\"E\"}".utf8))
        #expect(runtime.answer()?.status == 202)
        let error = #expect(throws: FunctionError.self) {
            try fixture.channel.invoke(FunctionFixture.request(), payload: [], timeout: Self.limit)
        }
        guard case .runtime(let said) = error else { return #expect(Bool(false), "\(String(describing: error))") }
        #expect(said.answer.kind == .restoreError)
        #expect(said.payload == [UInt8]("{\"errorType\":\"E\"}".utf8))
    }

    @Test func tellsErrorsOfTheInitializationAndTheEnd() throws {
        let fixture = try FunctionFixture(script: "echo out; echo err >&2; read -r line </dev/null; sleep 0.3; exit 7")
        let runtime = try fixture.runtime()
        var written: [UInt8] = []
        while written.count < 8 {
            if case .log(let bytes) = try fixture.channel.next(timeout: Self.limit) { written += bytes }
        }
        runtime.post("init/error", [UInt8]("{\"errorType\":\"I\"}".utf8))
        #expect(runtime.answer()?.status == 202)
        let first = #expect(throws: FunctionError.self) { try fixture.channel.waitUntilReady(timeout: Self.limit) }
        guard case .runtime(let said) = first else { return #expect(Bool(false), "\(String(describing: first))") }
        #expect(said.answer.kind == .initializationError)
        #expect(String(decoding: said.log, as: UTF8.self) == "out\nerr\n")
        #expect(throws: FunctionError.exited(ExitStatus(.code, 7), log: [])) {
            try fixture.channel.waitUntilReady(timeout: Self.limit)
        }
        // A host that comes later hears it as well.
        let later = try FunctionFixture.connect(fixture.agent)
        #expect(try later.attach() == .ended)
        // The news of that end may still be on its way when the next runtime is started.
        try later.start(FunctionStart(arguments: ["/bin/sh", "-c", "exit 8"]))
        #expect(throws: FunctionError.exited(ExitStatus(.code, 8), log: [])) { try later.waitUntilReady(timeout: Self.limit) }
    }

    @Test func aProgramThatIsNotThereIsRefused() throws {
        let agent = try AgentFixture()
        let channel = try FunctionFixture.connect(agent)
        _ = try channel.attach()
        #expect(throws: FunctionError.agent(.refused(Failure(.commandNotFound, errno: 2, "/nowhere")))) {
            try channel.start(FunctionStart(arguments: ["/nowhere"]))
        }
        #expect(throws: FunctionError.agent(.refused(Failure(.noSession, "no runtime was started")))) {
            try channel.invoke(FunctionFixture.request(), payload: [1, 2], timeout: Self.limit)
        }
    }

    @Test func killEndsTheRuntime() throws {
        let fixture = try FunctionFixture(script: "while :; do echo spam; done")
        _ = try ready(fixture)
        try fixture.channel.kill()
        var end: ExitStatus?
        while end == nil {
            if case .exited(let status) = try fixture.channel.next(timeout: Self.limit) { end = status }
        }
        #expect(end == ExitStatus(.signal, 9))
        #expect(fixture.channel.phase == .ended)
    }

    @Test func largePayloadsStreamBothWays() throws {
        let fixture = try FunctionFixture()
        let runtime = try ready(fixture)
        var event = [UInt8](repeating: 0, count: FunctionLimits.payloadBytesMax)
        for index in event.indices { event[index] = UInt8(truncatingIfNeeded: index &* 31 &+ index >> 9) }
        let whole = event
        let channel = fixture.channel
        // The host writes while the runtime reads.
        let sender = Thread { try? channel.send([.invoke(FunctionFixture.request(), whole)], timeout: Self.limit) }
        sender.start()
        #expect(runtime.answer()?.body == whole)
        // As chunks, while the host reads.
        let writer = Thread {
            runtime.send([UInt8]("POST /2018-06-01/runtime/invocation/r-1/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n".utf8))
            for start in stride(from: 0, to: whole.count, by: 100_000) {
                let piece = whole[start..<min(start + 100_000, whole.count)]
                runtime.send([UInt8]("\(String(piece.count, radix: 16))\r\n".utf8) + piece + [13, 10])
            }
            runtime.send([UInt8]("0\r\n\r\n".utf8))
        }
        writer.start()
        let answer = try outcome(channel)
        #expect(answer.payload == whole)
        #expect(answer.end.outcome == .complete)
        #expect(runtime.answer()?.status == 202)
    }

    @Test func anAnswerThatIsTooLongIsCutOffAndTheRuntimeIsTold() throws {
        let fixture = try FunctionFixture()
        let runtime = try ready(fixture)
        let channel = fixture.channel
        for identifier in ["r-1", "r-2"] {
            try channel.send([.invoke(FunctionFixture.request(Text(identifier)), [])])
            #expect(runtime.answer()?.status == 200)
            let writer = Thread {
                runtime.post("invocation/\(identifier)/response", [UInt8](repeating: 65, count: 7_000_000))
            }
            writer.start()
            let answer = try outcome(channel)
            #expect(answer.end.outcome == .tooLarge)
            let told = try #require(runtime.answer())
            #expect(told.status == 413)
            #expect(String(decoding: told.body, as: UTF8.self).contains("RequestEntityTooLarge"))
            runtime.get("invocation/next")
        }
    }

    @Test func endlessLogsDoNotKeepAnswersWaiting() throws {
        let fixture = try FunctionFixture(script: "while :; do echo a line that is printed without an end; done")
        let runtime = try ready(fixture)
        try fixture.channel.send([.invoke(FunctionFixture.request(), [])])
        #expect(runtime.answer()?.status == 200)
        while true {
            if case .log = try fixture.channel.next(timeout: Self.limit) { break }
        }
        // The log goes on without an end; the answer comes all the same.
        runtime.post("invocation/r-1/response", [1])
        let answer = try outcome(fixture.channel)
        #expect(answer.payload == [1])
        #expect(answer.log.count <= 65_536)
    }

    @Test func aRuntimeThatBreaksOffIsTold() throws {
        let fixture = try FunctionFixture()
        var runtime: RuntimeClient? = try ready(fixture)
        try fixture.channel.send([.invoke(FunctionFixture.request(), [])])
        #expect(runtime?.answer()?.status == 200)
        runtime?.send([UInt8]("POST /2018-06-01/runtime/invocation/r-1/response HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc".utf8))
        runtime = nil
        let answer = try outcome(fixture.channel)
        #expect(answer.end.outcome == .broken)
        #expect(answer.payload == Array("abc".utf8))
    }

    @Test func oddRequestsAreRefused() throws {
        let fixture = try FunctionFixture()
        let runtime = try fixture.runtime()
        runtime.get("nothing")
        #expect(runtime.answer()?.status == 404)
        runtime.post("invocation/x/response", [1, 2, 3])
        #expect(runtime.answer()?.status == 400)
        // Requests in one go are answered in order.
        runtime.send([UInt8]("GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\nConnection: close\r\n\r\nGET /c HTTP/1.1\r\n\r\n".utf8))
        #expect(runtime.answer()?.status == 404)
        #expect(runtime.answer()?.head.contains("Connection: close") == true)
        #expect(runtime.answer() == nil)
        let other = try fixture.runtime()
        other.send([UInt8]("nonsense\r\n\r\n".utf8))
        #expect(other.answer()?.status == 400)
        #expect(other.answer() == nil)
    }

    @Test func aRequestBeforeTheAnswerIsRefused() throws {
        let fixture = try FunctionFixture()
        let runtime = try ready(fixture)
        try fixture.channel.send([.invoke(FunctionFixture.request(), [])])
        #expect(runtime.answer()?.status == 200)
        runtime.get("invocation/next")
        #expect(runtime.answer()?.status == 403)
        try fixture.channel.send([.invoke(FunctionFixture.request("r-2"), [])])
        #expect(try fixture.channel.next(timeout: Self.limit) == .failed(Failure(.protocolFault, "protocol fault 7 at byte 2")))
    }
}
