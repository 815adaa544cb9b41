import Foundation
import Logging
import Synchronization
import Testing

@testable import Functions

/// What comes over the wire, whoever sends it.
@Suite(.timeLimit(.minutes(10))) struct HTTPTests {
    private func answers(_ bytes: [UInt8]) -> [String] {
        String(decoding: bytes, as: UTF8.self).components(separatedBy: "HTTP/1.1 ").dropFirst().map { String($0.prefix(3)) }
    }

    @Test(arguments: [
        "GARBAGE\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "\u{0}\u{1}\u{2}\r\n\r\n", "GET /healthz HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        "POST /a HTTP/1.1\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcd", "GET * HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        "POST /a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ])
    func garbageIsRefused(_ text: String) async throws {
        try await GatewayFixture.run { fixture in
            let bytes = try await RawConnection.exchange(Array(text.utf8), port: fixture.gateway.port)
            #expect(answers(bytes).allSatisfy { $0 == "400" || $0 == "403" || $0 == "404" || $0 == "505" })
            #expect(try await fixture.send("GET", "/healthz").status == 200)
        }
    }

    @Test func randomBytesDoNoHarm() async throws {
        let seed = UInt64.random(in: 0 ... .max)
        var generator = Splitmix(state: seed)
        try await GatewayFixture.run({ $0.limits.transferSeconds = 1 }) { fixture in
            let start = Array(
                "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{\"a\": 12}".utf8)
            for _ in 0..<60 {
                var bytes = start
                for _ in 0..<Int.random(in: 1...8, using: &generator) {
                    bytes[Int.random(in: 0..<bytes.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
                }
                let connection = try RawConnection(port: fixture.gateway.port)
                connection.write(bytes)
            }
            #expect(try await fixture.send("GET", "/healthz").status == 200, "seed \(seed)")
            try await fixture.eventually { fixture.gateway.bodyBytes == 0 }
        }
    }

    @Test func pipelinedRequestsAreAnsweredInOrder() async throws {
        try await GatewayFixture.run { fixture in
            try await fixture.create()
            var text = ""
            for index in 0..<20 {
                let body = index % 2 == 0 ? "\"slow \(index)\"" : "\(index)"
                text += "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: localhost\r\n"
                text += "Content-Length: \(body.utf8.count)\(index == 19 ? "\r\nConnection: close" : "")\r\n\r\n\(body)"
            }
            let bytes = try await RawConnection.exchange(Array(text.utf8), port: fixture.gateway.port)
            let bodies = String(decoding: bytes, as: UTF8.self).components(separatedBy: "\r\n\r\n").dropFirst()
                .map { $0.components(separatedBy: "HTTP/1.1")[0] }
            #expect(bodies == (0..<20).map { $0 % 2 == 0 ? "\"slow \($0)\"" : "\($0)" })
        }
    }

    @Test func slowClientsAreCutOff() async throws {
        try await GatewayFixture.run({
            $0.limits.headerSeconds = 1
            $0.limits.transferSeconds = 1
        }) { fixture in
            let idle = try RawConnection(port: fixture.gateway.port)
            let head = try RawConnection(port: fixture.gateway.port)
            head.write(Array("GET /healthz HTTP/1.1\r\nHo".utf8))
            let body = try RawConnection(port: fixture.gateway.port)
            body.write(Array("POST /2015-03-31/functions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{".utf8))
            // Each ends by itself: reading returns.
            let ends = await withTaskGroup(of: [UInt8].self) { group in
                for connection in [idle, head, body] {
                    group.addTask {
                        await withCheckedContinuation { continuation in
                            Thread.detachNewThread { continuation.resume(returning: connection.read()) }
                        }
                    }
                }
                return await group.reduce(into: []) { $0.append($1) }
            }
            #expect(ends.flatMap(answers) == ["408"])
            try await fixture.eventually { fixture.gateway.connections == 0 }
        }
    }

    @Test func headersHaveALimit() async throws {
        try await GatewayFixture.run { fixture in
            let long = String(repeating: "x", count: 100_000)
            let bytes = try await RawConnection.exchange(
                Array("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: \(long)\r\n\r\n".utf8), port: fixture.gateway.port)
            #expect(answers(bytes).allSatisfy { $0 == "431" || $0 == "400" })
            let many = (0..<400).map { "X-\($0): y\r\n" }.joined()
            let more = try await RawConnection.exchange(
                Array("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\(many)\r\n".utf8), port: fixture.gateway.port)
            #expect(answers(more).allSatisfy { $0 == "431" || $0 == "400" })
        }
    }

    /// Who only holds connections does not keep others out, however many they are.
    @Test func silentClientsGiveTheirPlaces() async throws {
        try await GatewayFixture.run({ $0.limits.connectionsMax = 4 }) { fixture in
            let silent = try (0..<20).map { _ in try RawConnection(port: fixture.gateway.port) }
            for _ in 0..<8 { #expect(try await fixture.send("GET", "/healthz").status == 200) }
            #expect(fixture.gateway.connections <= 4)
            withExtendedLifetime(silent) {}
        }
    }

    /// Those that are served keep their places; who finds none is told.
    @Test func busyConnectionsHaveALimit() async throws {
        try await GatewayFixture.run({ $0.limits.connectionsMax = 3 }) { fixture in
            try await fixture.create()
            let payload = #""gate""#
            let head = "POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            let busy = try (0..<3).map { _ in
                let connection = try RawConnection(port: fixture.gateway.port)
                connection.write(Array("\(head)Content-Length: \(payload.utf8.count)\r\n\r\n\(payload)".utf8))
                return connection
            }
            try await fixture.eventually { fixture.source.counts.withLock { $0.atGate.count == 3 } }
            let refused = try await RawConnection.exchange(
                Array("GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n".utf8), port: fixture.gateway.port)
            #expect(answers(refused) == ["503"])
            fixture.source.openGate()
            for connection in busy { #expect(answers(connection.read()) == ["200"]) }
            #expect(try await fixture.send("GET", "/healthz").status == 200)
        }
    }

    @Test func placesAreShared() {
        var limits = GatewayLimits()
        (limits.connectionsMax, limits.connectionsPerAddressMax, limits.connectionsOfHost) = (8, 4, 2)
        var table = ConnectionTable<Int>(limits: limits)
        var next = 0
        func add(_ address: String, isLoopback: Bool = false) -> (number: UInt64, instead: Int?, isTaken: Bool) {
            next += 1
            let (number, admission) = table.add(next, from: address, isLoopback: isLoopback)
            guard case .taken(let instead) = admission else { return (number, nil, false) }
            return (number, instead, true)
        }
        let first = (0..<4).map { _ in add("a") }
        #expect(first.allSatisfy { $0.isTaken && $0.instead == nil })
        #expect(add("a").instead == 1, "an address has its share; its oldest goes")
        for one in first.dropFirst() { table.note(one.number, isIdle: false) }
        #expect(add("a").instead == 5)
        #expect(add("b").isTaken && add("b").isTaken)
        #expect(add("b").instead == 6, "the oldest idle one of all, when all places for others are taken")
        table.note(first[1].number, isIdle: true)
        #expect(add("c").instead == 7, "who never asked anything goes before who did")
        #expect(add("loopback", isLoopback: true).instead == nil && add("loopback", isLoopback: true).instead == nil)
        #expect(table.count == 8)
    }

    @Test(arguments: ["/", "/healthz", "/metrics"]) func headsAreAnswered(_ path: String) async throws {
        try await GatewayFixture.run { fixture in
            let (head, whole) = (try await fixture.send("HEAD", path), try await fixture.send("GET", path))
            #expect(head.status == 200 && head.body.isEmpty && head.headers["content-type"] == whole.headers["content-type"])
            #expect((head.headers["content-length"].flatMap { Int($0) } ?? 0) > 0)
        }
    }

    @Test func aClientThatGoesLeavesNothing() async throws {
        try await GatewayFixture.run({ $0.invoker.concurrencyMax = 1 }) { fixture in
            try await fixture.create()
            async let first = fixture.invoke("f", #""gate""#)
            try await fixture.eventually { fixture.source.counts.withLock { $0.atGate.count == 1 } }
            do {
                let leaving = try RawConnection(port: fixture.gateway.port)
                leaving.write(
                    Array("POST /2015-03-31/functions/f/invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\n2".utf8))
                try await fixture.eventually { fixture.gateway.invoker.totals.waiting == 1 }
            }
            try await fixture.eventually { fixture.gateway.invoker.totals.waiting == 0 }
            fixture.source.openGate()
            #expect(try await first.status == 200)
            #expect(fixture.source.requests.count == 1)
        }
    }

    @Test func aTokenIsNeeded() async throws {
        let token = "correct-horse-battery"
        try await GatewayFixture.run(token: token) { (fixture) async throws in
            #expect(try await fixture.send("GET", "/aurora/status").type == "AccessDeniedException")
            #expect(try await fixture.send("GET", "/metrics", headers: ["Authorization": "Bearer wrong-horse-battery-"]).status == 403)
            #expect(try await fixture.send("GET", "/metrics", headers: ["Authorization": "Bearer \(token)"]).status == 200)
            #expect(try await fixture.send("GET", "/metrics", headers: ["X-Amz-Security-Token": token]).status == 200)
            #expect(try await fixture.send("GET", "/healthz").status == 200)
            #expect(try await fixture.send("GET", "/").status == 200)
        }
    }

    @Test func otherHostsAreNotServedWithoutToken() {
        let configuration = GatewayConfiguration(host: "0.0.0.0", path: "/nowhere")
        let logger = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
        do throws(GatewayError) {
            _ = try Gateway(configuration, source: PretendedSource(), builder: PretendedBuilder(), logger: logger)
            Issue.record("a gateway for other hosts was made without a token")
        } catch { #expect(error == .tokenNeeded(host: "0.0.0.0")) }
    }

    @Test func foreignPagesAreRefused() async throws {
        try await GatewayFixture.run { (fixture) async throws in
            let port = fixture.gateway.port
            #expect(try await fixture.send("GET", "/aurora/status", headers: ["Origin": "http://evil.example"]).status == 403)
            #expect(try await fixture.send("GET", "/aurora/status", headers: ["Host": "evil.example:\(port)"]).status == 403)
            #expect(try await fixture.send("GET", "/aurora/status", headers: ["Sec-Fetch-Site": "cross-site"]).status == 403)
            #expect(try await fixture.send("GET", "/aurora/status", headers: ["Origin": "http://127.0.0.1:\(port)"]).status == 200)
            #expect(try await fixture.send("GET", "/aurora/status", headers: ["Host": "localhost:\(port)"]).status == 200)
        }
    }

    @Test func metricsCountWhatHappened() async throws {
        try await GatewayFixture.run { fixture in
            try await fixture.create()
            for payload in ["1", "2", "\"error\"", "\"crash\""] { _ = try await fixture.invoke("f", payload) }
            let text = try await fixture.send("GET", "/metrics").body
            #expect(text.contains(#"aurora_function_invocations_total{function="f",outcome="success"} 2"#))
            #expect(text.contains(#"aurora_function_invocations_total{function="f",outcome="exit"} 1"#))
            #expect(text.contains(#"aurora_function_duration_seconds_count{function="f",start="pooled"} 1"#))
            #expect(text.contains(#"aurora_function_duration_seconds_count{function="f",start="reused"} 3"#))
        }
    }

    @Test func percentilesAreWithinAnEighthOfAnOctave() {
        var histogram = LatencyHistogram()
        for microseconds in 1...1000 { histogram.add(nanoseconds: Int64(microseconds) * 1000) }
        for (share, expected) in [(0.5, 500_000.0), (0.9, 900_000), (0.99, 990_000)] {
            let value = Double(histogram.percentile(share) ?? 0)
            #expect(value >= expected && value <= expected * 1.15)
        }
        #expect(histogram.count == 1000 && histogram.cumulative.last == 1000)
    }
}
