import Foundation
import Synchronization
import Testing

@testable import Functions

/// Invocation over HTTP, in the words of Lambda's API.
@Suite(.timeLimit(.minutes(10))) struct InvokeTests {
    @Test func answersWithWhatTheFunctionAnswered() async throws {
        try await GatewayFixture.run { fixture in
            try await fixture.create()
            let answer = try await fixture.invoke("f", #"{"a": [1, "ä"]}"#)
            #expect(answer.status == 200)
            #expect(answer.body == #"{"a": [1, "ä"]}"#)
            #expect(answer.headers["x-amz-executed-version"] == "$LATEST")
            #expect(answer.headers["x-amz-function-error"] == nil)
            #expect(answer.headers["x-amzn-requestid"] == fixture.source.requests[0].requestIdentifier)
            #expect(try await fixture.invoke("f", "").body == "{}")
            #expect(fixture.source.started == 1, "an idle instance is used again")
            #expect(fixture.source.requests[0].functionARN == "arn:aws:lambda:local:000000000000:function:f")
        }
    }

    @Test(arguments: [
        ("error", "Unhandled", "ValueError", "wrong"), ("crash", "Unhandled", "Runtime.ExitError", "exit status 1"),
        ("killed", "Unhandled", "Runtime.ExitError", "signal: killed"),
        ("timeout", "Unhandled", "Sandbox.Timedout", "Task timed out after 3.00 seconds"),
        ("large", "Unhandled", "Function.ResponseSizeTooLarge", "exceeded maximum allowed payload size"),
    ])
    func tellsTheFunctionsErrors(_ what: String, kind: String, type: String, message: String) async throws {
        try await GatewayFixture.run { fixture in
            try await fixture.create()
            let answer = try await fixture.invoke("f", "\"\(what)\"")
            #expect(answer.status == 200)
            #expect(answer.headers["x-amz-function-error"] == kind)
            #expect(answer.json["errorType"] as? String == type)
            #expect((answer.json["errorMessage"] as? String)?.contains(message) == true)
            #expect(try await fixture.invoke("f", "1").body == "1", "the next request is served")
        }
    }

    /// More memory than may be promised is not: who is refused is told why and when to try again; idle instances make room.
    @Test func memoryIsPromisedWithinBounds() async throws {
        try await GatewayFixture.run({ $0.invoker.memoryPromisedMax = 300 << 20 }) { fixture in
            for name in ["f", "g", "h"] { try await fixture.create(name) }
            for name in ["f", "g", "h", "f"] { #expect(try await fixture.invoke(name).status == 200) }
            #expect(fixture.gateway.invoker.totals.idle == 2)
            async let first = fixture.invoke("f", #""gate""#)
            async let second = fixture.invoke("g", #""gate""#)
            try await fixture.eventually { fixture.source.counts.withLock { $0.atGate.count == 2 } }
            let refused = try await fixture.invoke("h")
            #expect(refused.status == 429 && refused.type == "TooManyRequestsException" && refused.headers["retry-after"] == "1")
            #expect(refused.json["Reason"] as? String == "ConcurrentInvocationLimitExceeded")
            #expect((refused.json["Message"] as? String)?.contains("256 MiB of memory are promised") == true, "\(refused.body)")
            fixture.source.openGate()
            let (one, other) = (try await first, try await second)
            #expect(one.status == 200 && other.status == 200)
            #expect(try await fixture.invoke("h").status == 200)
        }
    }

    /// A host that is short of memory or disk starts no more instances.
    @Test(arguments: ["memory", "disk"]) func aHostWithoutRoomStartsNothing(_ what: String) async throws {
        let isShort = Atomic<Bool>(true)
        try await GatewayFixture.run({
            $0.invoker.room.memory = { isShort.load(ordering: .relaxed) && what == "memory" ? 600 << 20 : 8 << 30 }
            $0.invoker.room.disk = { isShort.load(ordering: .relaxed) && what == "disk" ? 100 << 20 : 8 << 30 }
        }) { fixture in
            try await fixture.create()
            let refused = try await fixture.invoke()
            #expect(refused.status == 429 && refused.headers["retry-after"] == "1" && refused.body.contains("MiB left") == (what == "disk"))
            #expect(refused.body.contains(what) && fixture.source.started == 0, "\(refused.body)")
            isShort.store(false, ordering: .relaxed)
            #expect(try await fixture.invoke().status == 200)
        }
    }

    /// What a function printed before it took too long, or was lost, is not lost with it.
    @Test(arguments: ["timeout", "large", "lost", "hang"]) func whatWasPrintedIsKept(_ what: String) async throws {
        try await GatewayFixture.run({ $0.invoker.graceMilliseconds = 10 }) { fixture in
            try await fixture.create(timeout: 1)
            let answer = try await fixture.invoke("f", "\"\(what)\"", headers: ["X-Amz-Log-Type": "Tail"])
            let tail = answer.headers["x-amz-log-result"].flatMap { Data(base64Encoded: $0) }
            if what != "lost" { #expect(String(decoding: tail ?? Data(), as: UTF8.self).contains("printed without an answer\n")) }
            #expect(try await fixture.send("GET", "/aurora/functions/f/log").body.contains("printed without an answer\n"))
        }
    }

    @Test func anInstanceThatHangsIsGivenUp() async throws {
        try await GatewayFixture.run({ $0.invoker.graceMilliseconds = 10 }) { fixture in
            try await fixture.create(timeout: 1)
            let answer = try await fixture.invoke("f", "\"hang\"")
            #expect(answer.json["errorType"] as? String == "Sandbox.Timedout")
            try await fixture.eventually { fixture.source.alive == 0 }
        }
    }

    @Test func aLostInstanceIsTheGatewaysFailure() async throws {
        try await GatewayFixture.run { fixture in
            try await fixture.create()
            let answer = try await fixture.invoke("f", "\"lost\"")
            #expect(answer.status == 502 && answer.type == "ServiceException")
            #expect((answer.json["Message"] as? String)?.contains("the machine has gone") == true)
        }
    }

    /// The pool has tried twice then: the gateway does not multiply that.
    @Test func aFailedRestoreIsAnsweredAtOnce() async throws {
        let source = PretendedSource(failures: 1)
        try await GatewayFixture.run(source: source) { fixture in
            try await fixture.create()
            let answer = try await fixture.invoke()
            #expect(source.counts.withLock { $0.asked } == 1)
            #expect(answer.status == 502 && answer.type == "ServiceException")
            #expect((answer.json["Message"] as? String)?.contains("the state is damaged") == true)
            #expect(try await fixture.invoke().status == 200)
        }
    }

    @Test func givesTheEndOfTheLog() async throws {
        try await GatewayFixture.run { fixture in
            try await fixture.create()
            let answer = try await fixture.invoke("f", "{}", headers: ["X-Amz-Log-Type": "Tail"])
            let encoded = try #require(answer.headers["x-amz-log-result"])
            let log = String(decoding: try #require(Data(base64Encoded: encoded)), as: UTF8.self)
            #expect(log.hasPrefix("START RequestId: ") && log.contains("\nhello\nEND RequestId: ") && log.contains("\nREPORT RequestId: "))
            #expect(try await fixture.invoke().headers["x-amz-log-result"] == nil)
            let kept = try await fixture.send("GET", "/aurora/functions/f/log")
            #expect(kept.body.components(separatedBy: "START RequestId").count == 3)
        }
    }

    /// What the guest's kernel counted is told in the log, whatever the answer is, and in the figures.
    @Test(arguments: ["1", "\"timeout\"", "\"crash\""]) func theMemoryUsedIsTold(_ event: String) async throws {
        try await GatewayFixture.run { fixture in
            try await fixture.create()
            let answer = try await fixture.invoke("f", event, headers: ["X-Amz-Log-Type": "Tail"])
            let log = String(decoding: try #require(Data(base64Encoded: answer.headers["x-amz-log-result"] ?? "")), as: UTF8.self)
            #expect(log.contains("\tMemory Size: 128 MB\tMax Memory Used: 37 MB\t"), "\(log)")
            let metrics = try await fixture.send("GET", "/metrics").body
            #expect(metrics.contains("aurora_function_memory_peak_bytes{function=\"f\"} \((37 << 20) - 5)\n"))
        }
    }

    /// Nothing is made up where nothing was measured.
    @Test func memoryThatIsNotKnownIsNotTold() {
        var served = Served(outcome: .success(InvocationResult(payload: [])), start: .reused, waited: 0, restored: 0, served: 0)
        served.privateBytes = 1 << 20
        let function = DeployedFunction(name: "f", image: "", memoryBytes: 128 << 20, timeoutSeconds: 3, revision: "")
        for format in ["Text", "JSON"] {
            var logging = LoggingSettings()
            logging.isJSON = format == "JSON"
            let answer = InvokeAnswer(identifier: "i", function: function, served: served, logging: logging)
            let log = String(decoding: answer.log, as: UTF8.self)
            #expect(!log.lowercased().contains("max memory") && !log.contains("maxMemory") && log.contains("128"), "\(log)")
        }
    }

    @Test func refusesWhatIsNoRequest() async throws {
        try await GatewayFixture.run { fixture in
            try await fixture.create()
            #expect(try await fixture.invoke("nobody").type == "ResourceNotFoundException")
            #expect(try await fixture.invoke("f", "{").type == "InvalidRequestContentException")
            #expect(try await fixture.invoke("f", "{} x").status == 400)
            #expect(try await fixture.invoke("f:7").status == 404)
            #expect(try await fixture.invoke("f:$LATEST").status == 200)
            #expect(try await fixture.invoke("arn:aws:lambda:us-east-1:123456789012:function:f").status == 200)
            #expect(try await fixture.invoke("..%2f..%2fetc").type == "InvalidParameterValueException")
            #expect(try await fixture.invoke("f", headers: ["X-Amz-Invocation-Type": "Sideways"]).status == 400)
            #expect(try await fixture.invoke("f", headers: ["X-Amz-Log-Type": "Head"]).status == 400)
            #expect(try await fixture.invoke("f", headers: ["X-Amz-Client-Context": "e30="]).status == 200)
            #expect(try await fixture.invoke("f", headers: ["X-Amz-Client-Context": "!"]).type == "InvalidRequestContentException")
            #expect(try await fixture.invoke("f", headers: ["X-Amz-Invocation-Type": "DryRun"]).status == 204)
            #expect(try await fixture.send("PATCH", "/2015-03-31/functions/f").type == "UnknownOperationException")
            #expect(try await fixture.send("GET", "/nothing").status == 404)
            #expect(try await fixture.send("GET", "/%zz").status == 400)
        }
    }

    @Test func payloadsHaveALimit() async throws {
        try await GatewayFixture.run { fixture in
            try await fixture.create()
            let limit = 6 << 20
            let exact = "\"\(String(repeating: "x", count: limit - 2))\""
            #expect(try await fixture.invoke("f", exact).body.utf8.count == limit)
            let answer = try await fixture.invoke("f", exact + " ")
            #expect(answer.status == 413 && answer.type == "RequestEntityTooLargeException")
            #expect(try await fixture.invoke("f", exact, headers: ["X-Amz-Invocation-Type": "Event"]).status == 413)
            #expect(fixture.gateway.bodyBytes == 0)
        }
    }

    @Test func reservedConcurrencyIsKept() async throws {
        let source = PretendedSource()
        try await GatewayFixture.run(source: source, { $0.invoker.waitMilliseconds = 5000 }) { fixture in
            try await fixture.create()
            let path = "/2017-10-31/functions/f/concurrency"
            #expect(try await fixture.send("PUT", path, body: #"{"ReservedConcurrentExecutions":2}"#).status == 200)
            try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<8 { group.addTask { try await fixture.invoke("f", "\"slow\"").status } }
                for try await status in group { #expect(status == 200) }
            }
            #expect(source.counts.withLock { $0.servingMax } == 2)
            #expect(source.started == 2)
            _ = try await fixture.send("PUT", path, body: #"{"ReservedConcurrentExecutions":0}"#)
            #expect(try await fixture.invoke().type == "TooManyRequestsException")
            #expect(try await fixture.send("DELETE", path).status == 204)
            #expect(try await fixture.invoke().status == 200)
        }
    }

    @Test func waitingHasALimit() async throws {
        try await GatewayFixture.run({
            $0.invoker.concurrencyMax = 1
            $0.invoker.waitMilliseconds = 20
        }) { fixture in
            try await fixture.create()
            async let first = fixture.invoke("f", "\"gate\"")
            try await fixture.eventually { fixture.source.counts.withLock { $0.atGate.count == 1 } }
            let second = try await fixture.invoke("f", "2")
            #expect(second.status == 429 && second.type == "TooManyRequestsException")
            fixture.source.openGate()
            #expect(try await first.status == 200)
            #expect(fixture.gateway.invoker.totals == (0, 0, 1, 0))
        }
    }
}
