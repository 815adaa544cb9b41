import CLinux
import Foundation
import Groups
import Testing

/// Whether groups are checkpointed as promised, and say so, with real guests.
@Suite(.enabled(if: Command.obstacle == nil, "guests cannot be run here"), .serialized, .timeLimit(.minutes(10)))
struct HealthTests {
    let aurora: Command

    init() throws { aurora = try Command() }

    private func report(_ name: String) throws -> PersistenceReport {
        struct Entry: Decodable { let persistence: PersistenceReport? }
        let entries = try JSONDecoder().decode([Entry].self, from: Data(try aurora.run("inspect", name).output.utf8))
        return try #require(entries.first?.persistence)
    }

    private func get(_ name: String, _ path: String) throws -> String {
        let socket = "\(aurora.runtime)/\(name)/control.sock"
        return String(decoding: try HTTPClient.send(HTTPRequest(method: "GET", path: path), to: socket).body, as: UTF8.self)
    }

    /// A large idle guest gives hundreds of thousands of pages back at once; its checkpoints go on.
    @Test func aLargeIdleGroupIsCheckpointed() throws {
        let started = try aurora.run(
            "persist", "-d", "--name", "z", "-m", "8G", "--period", "50ms", "--wait-durable", "240", "--", "sleep", "100000")
        try #require(started.code == 0, "\(started.error)")
        #expect(try report("z").isResumable)
        // Its memory is reported free in the first seconds.
        var marks = [try report("z").count]
        for _ in 0..<3 {
            let mark = (marks.last ?? 0) + 50
            try aurora.waitFor("50 more checkpoints", seconds: 120) { try report("z").count > mark }
            marks.append(try report("z").count)
        }
        let asked = try aurora.run("checkpoint", "z", "asked", "--timeout", "120")
        #expect(asked.code == 0, "\(asked.error)")
        #expect(try aurora.run("rollback", "z", "--to", "asked").code == 0)
        try aurora.waitFor("checkpoints after the rollback", seconds: 120) { try report("z").count > 20 }
        #expect(try !aurora.run("ps", "z").output.contains("not yet resumable"))
    }

    @Test func eventsAndMetrics() throws {
        let started = try aurora.run("persist", "-d", "--name", "e", "--period", "off", "--", "sleep", "100000")
        try #require(started.code == 0, "\(started.error)")
        #expect(try aurora.run("ps", "e").output.contains("not yet resumable"))
        #expect(try aurora.run("checkpoint", "e", "one").code == 0)
        #expect(try !aurora.run("ps", "e").output.contains("not yet resumable"))
        #expect(try report("e").health.state == .manual)
        for words in [["pause", "e"], ["resume", "e"], ["attach", "e", "--backend", "memory"], ["detach", "e", "--backend", "memory"]] {
            let result = try aurora.run(words)
            #expect(result.code == 0, "\(words): \(result.error)")
        }
        let (follower, _, output, _) = try aurora.start(["events", "-f", "--format", "json", "e"])
        // It follows from here on.
        var told = output.fileHandleForReading.availableData
        #expect(try aurora.run("rollback", "e", "--to", "one").code == 0)
        #expect(try aurora.run("events", "nobody").code == 1)
        let metrics = try get("e", "/metrics")
        #expect(metrics.contains("aurora_group_state{state=\"running\"} 1.0"), "\(metrics)")
        #expect(metrics.contains("aurora_group_checkpoints_as_promised 1.0"), "\(metrics)")
        try aurora.waitFor("the rollback's event") { try aurora.run("events", "e").output.contains("e rollback: back to one") }
        #expect(try aurora.run("rm", "--force", "e").code == 0)
        told += output.fileHandleForReading.readDataToEndOfFile()
        follower.waitUntilExit()
        #expect(follower.terminationStatus == 0)
        struct Line: Decodable {
            let number: UInt64
            let kind: String
            let message: String
        }
        let events = try told.split(separator: UInt8(ascii: "\n")).map { try JSONDecoder().decode(Line.self, from: Data($0)) }
        let texts = events.map { "\($0.kind) \($0.message)" }
        let expected = ["state running", "state paused", "backend memory attached", "backend memory detached"]
        #expect(expected.allSatisfy(texts.contains), "\(texts)")
        #expect(texts.contains { $0.hasPrefix("checkpoint ") && $0.hasSuffix(" one") }, "\(texts)")
        #expect(events.map(\.number) == Array(1...UInt64(max(1, events.count))), "\(texts)")
    }

    @Test func badValuesAreRefused() throws {
        for words in [
            ["checkpoint", "x", "--timeout", "0"], ["checkpoint", "x", "--timeout", "nan"],
            ["persist", "-d", "--wait-durable", "1e9", "--", "true"], ["persist", "--wait-durable", "5", "--", "true"],
        ] { #expect(try aurora.run(words).code == 64, "\(words)") }
    }
}
