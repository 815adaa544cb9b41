import Foundation
import Linux
import NIOPosix
import Synchronization
import Testing

@testable import Functions

/// Asynchronous invocations: kept, delivered, tried again, given up.
@Suite(.timeLimit(.minutes(10))) struct EventTests {
    private let event = ["X-Amz-Invocation-Type": "Event"]

    @Test func anEventIsDelivered() async throws {
        try await GatewayFixture.run { fixture in
            try await fixture.create()
            let answer = try await fixture.invoke("f", #"{"n":1}"#, headers: event)
            #expect(answer.status == 202 && answer.body.isEmpty)
            try await fixture.eventually { await fixture.gateway.events.counts == (0, 0, 0) }
            #expect(fixture.source.requests.map(\.requestIdentifier) == [answer.headers["x-amzn-requestid"]])
            #expect(fixture.gateway.events.events.isEmpty)
        }
    }

    @Test func aFunctionThatFailsIsRunThreeTimes() async throws {
        try await GatewayFixture.run { fixture in
            try await fixture.create()
            let answer = try await fixture.invoke("f", #""crash""#, headers: event)
            try await fixture.eventually { await fixture.gateway.events.counts.dead == 1 }
            #expect(fixture.source.requests.count == 3)
            let list = try await fixture.send("GET", "/aurora/events?function=f")
            let report = try JSONDecoder().decode(EventsReport.self, from: Data(list.body.utf8))
            let letter = try #require(report.events.first)
            #expect(letter.identifier == answer.headers["x-amzn-requestid"] && letter.state == "dead" && letter.attempts == 3)
            #expect(letter.failure?.contains("status 1") == true)
            #expect(try await fixture.send("DELETE", "/aurora/events/\(letter.identifier)").status == 204)
            #expect(try await fixture.send("DELETE", "/aurora/events/\(letter.identifier)").status == 404)
        }
    }

    /// As Lambda has it: the event is taken, each delivery tries the initialization, and in the end it is a dead letter like any other.
    @Test func anEventOfAFunctionThatCannotBeInitializedIsTaken() async throws {
        try await GatewayFixture.run { fixture in
            try await fixture.create("f", code: "broken")
            #expect(try await fixture.invoke("f", headers: ["X-Amz-Invocation-Type": "DryRun"]).status == 204)
            #expect(try await fixture.invoke("f", "1", headers: event).status == 202)
            try await fixture.eventually { await fixture.gateway.events.counts.dead == 1 }
            let report = try JSONDecoder().decode(
                EventsReport.self, from: Data(try await fixture.send("GET", "/aurora/events?function=f").body.utf8))
            let letter = try #require(report.events.first)
            #expect(letter.attempts == 3 && letter.failure?.contains("Unable to import module 'app'") == true, "\(letter)")
            #expect(fixture.builder.plans.withLock { $0.count } == 4 && fixture.source.requests.isEmpty)
            // What it needed is there: the next one is served.
            fixture.builder.isMended.store(true, ordering: .relaxed)
            #expect(try await fixture.invoke("f", "2", headers: event).status == 202)
            try await fixture.eventually { fixture.source.requests.map(\.payload) == [Array("2".utf8)] }
        }
    }

    /// Functions `f`, and `sink` for what `f` fails on.
    private func sink(_ fixture: GatewayFixture) async throws {
        for name in ["sink", "f"] { try await fixture.create(name) }
        let body = #"{"DeadLetterConfig":{"TargetArn":"\#(FunctionName.resourceName("sink"))"}}"#
        #expect(try await fixture.send("PUT", "/2015-03-31/functions/f/configuration", body: body).status == 200)
        try await fixture.settle("f")
    }

    private func letters(_ fixture: GatewayFixture) async throws -> [EventsReport.Event] {
        let list = try await fixture.send("GET", "/aurora/events")
        return try JSONDecoder().decode(EventsReport.self, from: Data(list.body.utf8)).events
    }

    /// What fails for good is handed to the function that is named, in the form of Lambda's destinations.
    @Test func aDeadLetterGoesToItsTarget() async throws {
        struct Record: Decodable {
            struct Request: Decodable { let requestId, functionArn, condition: String, approximateInvokeCount: Int }
            struct Response: Decodable { let functionError: String }
            struct Said: Decodable { let errorType: String }
            let requestContext: Request
            let requestPayload: String
            let responseContext: Response
            let responsePayload: Said
        }
        try await GatewayFixture.run { fixture in
            try await sink(fixture)
            let answer = try await fixture.invoke("f", #""error""#, headers: event)
            let isSink = { (request: Invocation) in request.functionARN.hasSuffix(":sink") }
            // The record holds the word, so the sink fails as well: that is kept, and says whose it is.
            try await fixture.eventually { await fixture.gateway.events.counts == (0, 0, 1) }
            #expect(fixture.source.requests.count { !isSink($0) } == 3 && fixture.source.requests.count(where: isSink) == 3)
            let given = try #require(fixture.source.requests.first(where: isSink))
            let record = try JSONDecoder().decode(Record.self, from: Data(given.payload))
            #expect(record.requestContext.requestId == answer.headers["x-amzn-requestid"])
            #expect(record.requestContext.functionArn == "\(FunctionName.resourceName("f")):$LATEST")
            #expect(record.requestContext.condition == "RetriesExhausted" && record.requestContext.approximateInvokeCount == 3)
            #expect(record.requestPayload == "error" && record.responseContext.functionError == "Unhandled")
            #expect(record.responsePayload.errorType == "ValueError")
            let letter = try #require(try await letters(fixture).first)
            #expect(letter.function == "sink" && letter.state == "dead" && letter.origin == record.requestContext.requestId)
            #expect(try await fixture.send("GET", "/metrics").body.contains("aurora_events_handed_on_total 1\n"))
        }
    }

    /// Without its target the letter is kept as any other; and it can be delivered again.
    @Test func aDeadLetterWithoutItsTargetIsKeptAndReplayed() async throws {
        try await GatewayFixture.run { fixture in
            try await sink(fixture)
            #expect(try await fixture.send("DELETE", "/2015-03-31/functions/sink").status == 204)
            _ = try await fixture.invoke("f", #""crash""#, headers: event)
            try await fixture.eventually { await fixture.gateway.events.counts == (0, 0, 1) }
            let letter = try #require(try await letters(fixture).first)
            #expect(letter.function == "f" && letter.failure?.hasSuffix("(not handed on: there is no function sink to hand it to)") == true)
            #expect(try await fixture.send("POST", "/aurora/events/nothing").status == 404)
            #expect(try await fixture.send("POST", "/aurora/events/\(letter.identifier)").status == 204)
            try await fixture.eventually { fixture.source.requests.count == 6 }
            try await fixture.eventually { await fixture.gateway.events.counts == (0, 0, 1) }
            #expect(Set(fixture.source.requests.map(\.requestIdentifier)) == [letter.identifier])
        }
    }

    @Test func aFullQueueRefuses() async throws {
        try await GatewayFixture.run({ $0.events.eventsMax = 1 }) { fixture in
            try await fixture.create()
            #expect(try await fixture.invoke("f", #""gate""#, headers: event).status == 202)
            try await fixture.eventually { fixture.source.counts.withLock { $0.atGate.count == 1 } }
            #expect(try await fixture.invoke("f", "2", headers: event).type == "TooManyRequestsException")
            fixture.source.openGate()
            try await fixture.eventually { await fixture.gateway.events.counts == (0, 0, 0) }
        }
    }

    /// What was acknowledged is delivered by the gateway after the one that was cut off while it delivered.
    @Test func acknowledgedEventsSurviveTheGateway() async throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "aurora-events-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let first = try await GatewayFixture(directory: directory) { $0.events.deliveriesMax = 1 }
        try await first.create()
        var accepted: Set<String> = []
        for index in 0..<20 {
            let answer = try await first.invoke("f", #""gate \#(index)""#, headers: event)
            #expect(answer.status == 202)
            accepted.insert(answer.headers["x-amzn-requestid"] ?? "")
        }
        try await first.eventually { first.source.counts.withLock { $0.atGate.count == 1 } }
        await first.gateway.events.stop()
        // The files as a SIGKILL would leave them.
        let copy = "\(directory)/copy"
        try FileManager.default.createDirectory(atPath: copy, withIntermediateDirectories: true)
        try FileManager.default.copyItem(atPath: "\(directory)/functions", toPath: "\(copy)/functions")
        first.source.openGate()
        await first.gateway.stop()

        let second = try await GatewayFixture(directory: copy)
        try await second.eventually {
            second.source.openGate()
            return await second.gateway.events.counts == (0, 0, 0)
        }
        #expect(Set(second.source.requests.map(\.requestIdentifier)) == accepted)
        await second.gateway.stop()
    }

    // MARK: - The log's bytes

    private func sample(_ index: Int) -> StoredEvent {
        StoredEvent(
            identifier: "id-\(index)", function: "f", payload: Array("{\"n\":\(index)}".utf8), clientContext: index % 2 == 0 ? "{}" : nil,
            receivedAt: 1_700_000_000_000 + Int64(index), attempts: index % 3, nextAt: 5, failure: index % 3 == 0 ? nil : "why",
            deadAt: index % 5 == 0 ? 9 : nil)
    }

    @Test func entriesAreReadBackAsTheyWereWritten() throws {
        for index in 0..<20 {
            let bytes = EventCodec.encode(.event(sample(index)))
            let read = try #require(EventCodec.decode(bytes[...]))
            #expect(read.record == .event(sample(index)) && read.end == bytes.count)
        }
        #expect(EventCodec.decode(EventCodec.encode(.done("x"))[...])?.record == .done("x"))
    }

    @Test func aTornEndIsLeftOut() throws {
        let magic = Array("AURORAEVENTLOG01".utf8)
        let whole = magic + EventCodec.encode(.event(sample(1)))
        let torn = whole + EventCodec.encode(.event(sample(2)))
        for count in whole.count..<torn.count {
            let (events, end) = EventLog.read(Array(torn[..<count]))
            #expect(events.count == 1 && end == whole.count)
        }
        #expect(EventLog.read(torn).events.count == 2)
    }

    @Test(arguments: 0..<8) func anyDamageIsFoundOrHarmless(_ round: Int) throws {
        let seed = UInt64.random(in: 0 ... .max)
        var generator = Splitmix(state: seed)
        var bytes = Array("AURORAEVENTLOG01".utf8)
        for index in 0..<5 { bytes += EventCodec.encode(.event(sample(index))) }
        for _ in 0..<300 {
            var damaged = bytes
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                damaged[Int.random(in: 0..<damaged.count, using: &generator)] ^= UInt8.random(in: 1...255, using: &generator)
            }
            let (events, end) = EventLog.read(Array(damaged.prefix(Int.random(in: 0...damaged.count, using: &generator))))
            #expect(end <= damaged.count, "seed \(seed)")
            for event in events.values { #expect((0..<5).contains { sample($0) == event }, "seed \(seed)") }
        }
    }

    @Test func aDamagedLogIsKeptAside() async throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "aurora-log-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: directory) }
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        var bytes = Array("AURORAEVENTLOG01".utf8)
        for index in 0..<3 { bytes += EventCodec.encode(.event(sample(index))) }
        bytes[16 + EventCodec.encode(.event(sample(0))).count + 12] ^= 1
        try Data(bytes).write(to: URL(filePath: "\(directory)/log"))
        let pool = NIOThreadPool(numberOfThreads: 1)
        pool.start()
        let log = try EventLog(path: "\(directory)/log", pool: pool)
        #expect(log.damage != nil && log.events.count == 1)
        let names = try FileManager.default.contentsOfDirectory(atPath: directory)
        #expect(names.contains { $0.hasPrefix("log.damaged-") })
        try await log.append(.event(sample(7)))
        #expect(EventLog.read([UInt8](try Data(contentsOf: URL(filePath: "\(directory)/log")))).events.count == 2)
        try await pool.shutdownGracefully()
    }

    // MARK: - A disk that is full, clocks that jump

    /// A disk that fails when it is told to, and clocks of the test's own.
    private final class TestDisk: Sendable {
        private struct State {
            var isFull = false
            var nanoseconds: Int64 = 1_000_000_000_000
            var day: Int64 = 1_700_000_000_000
        }
        private let state = Mutex(State())

        func set(isFull: Bool) { state.withLock { $0.isFull = isFull } }
        /// Time goes on, as all clocks tell.
        func pass(milliseconds: Int64) {
            state.withLock { state in
                state.nanoseconds += milliseconds * 1_000_000
                state.day += milliseconds
            }
        }
        /// The time of day is set.
        func jump(milliseconds: Int64) { state.withLock { $0.day += milliseconds } }

        var disk: EventDisk {
            var disk = EventDisk()
            disk.write = { [self] (bytes, descriptor, path) throws(SystemError) in
                if state.withLock({ $0.isFull }) { throw SystemError("write", path, errno: Errno(rawValue: ENOSPC)) }
                try DurableFile.writeAll(bytes, to: descriptor, path)
            }
            disk.now = { [self] in state.withLock { $0.nanoseconds } }
            disk.wall = { [self] in state.withLock { $0.day } }
            return disk
        }
    }

    /// After a full disk events are taken again, without a restart; what was delivered meanwhile is not delivered again.
    @Test func aFullDiskIsGotOver() async throws {
        let directory = FileManager.default.temporaryDirectory.appending(path: "aurora-full-\(UUID().uuidString)").path
        defer { try? FileManager.default.removeItem(atPath: directory) }
        let disk = TestDisk()
        let fixture = try await GatewayFixture(directory: directory) { $0.events.disk = disk.disk }
        try await fixture.create()
        #expect(try await fixture.invoke("f", #""gate""#, headers: event).status == 202)
        try await fixture.eventually { fixture.source.counts.withLock { $0.atGate.count == 1 } }
        disk.set(isFull: true)
        for _ in 0..<3 {
            let refused = try await fixture.invoke("f", "2", headers: event)
            #expect(refused.status == 500 && refused.type == "ServiceException" && refused.body.contains("No space left"))
            disk.pass(milliseconds: 1100)
        }
        #expect(try await fixture.invoke("f", "3").status == 200, "others are served")
        #expect(try await fixture.send("GET", "/healthz").body.hasPrefix("degraded: "))
        let metrics = try await fixture.send("GET", "/metrics").body
        #expect(metrics.contains("aurora_events_failing 1\n") && metrics.contains("aurora_events_refused_total 3\n"))
        fixture.source.openGate()
        try await fixture.eventually { await fixture.gateway.events.counts == (0, 0, 0) }

        #expect(try await fixture.invoke("f", "4", headers: event).status == 500)
        disk.set(isFull: false)
        disk.pass(milliseconds: 500)
        #expect(try await fixture.invoke("f", "4", headers: event).status == 500, "not more than once a second")
        disk.pass(milliseconds: 600)
        // Nobody has to ask for it.
        try await fixture.eventually { try await fixture.send("GET", "/healthz").body == "ok\n" }
        #expect(try await fixture.invoke("f", "5", headers: event).status == 202)
        try await fixture.eventually { await fixture.gateway.events.counts == (0, 0, 0) }
        await fixture.gateway.stop()
        let left = EventLog.read([UInt8](try Data(contentsOf: URL(filePath: "\(directory)/functions/.events.log"))))
        #expect(left.events.isEmpty)
    }

    /// The time of day may be set: no retry is held up by it, and no event becomes old.
    @Test(arguments: [-86_400_000, 86_400_000] as [Int64]) func clocksMayJump(_ jump: Int64) async throws {
        let disk = TestDisk()
        try await GatewayFixture.run({
            $0.events.disk = disk.disk
            $0.events.retryMilliseconds = 1000
        }) { fixture in
            try await fixture.create()
            #expect(try await fixture.invoke("f", #""crash""#, headers: event).status == 202)
            // The first retry, and the second one. Time passes only when the one before has its time, or nothing would be due.
            for count in 1...2 {
                try await fixture.eventually { await fixture.gateway.events.counts.waiting == 1 && fixture.source.requests.count == count }
                if count == 1 { disk.jump(milliseconds: jump) }
                disk.pass(milliseconds: Int64(count + 1) * 1000)
            }
            try await fixture.eventually { fixture.source.requests.count == 3 }
            try await fixture.eventually { await fixture.gateway.events.counts == (0, 0, 1) }
        }
    }

    @Test func checksumIsCastagnolis() { #expect(CRC32C.checksum(Array("123456789".utf8)) == 0xe306_9283) }
}

/// A small generator that a test can print the seed of.
struct Splitmix: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var value = state
        value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
        value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
        return value ^ value >> 31
    }
}
