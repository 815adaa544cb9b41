import Foundation
import Testing

/// What keeps the programs of a guest apart from their kernel, and that it is said.
@Suite(.enabled(if: Command.obstacle == nil, "guests cannot be run here"), .serialized, .timeLimit(.minutes(10)))
struct IsolationTests {
    let aurora: Command

    init() throws { aurora = try Command() }

    private struct Described: Decodable {
        struct Status: Decodable { let mode: String? }
        struct Isolation: Decodable {
            let kind: String
            let meaning: String
        }
        let status: Status
        let isolation: Isolation?
    }

    private func described(_ name: String) throws -> Described {
        try #require(try JSONDecoder().decode([Described].self, from: Data(try aurora.run("inspect", name).output.utf8)).first)
    }

    @Test func inspectSaysWhatHolds() throws {
        #expect(try aurora.run("run", "-d", "--name", "g", "--", "sleep", "1000").code == 0)
        let group = try described("g")
        let isolation = try #require(group.isolation)
        #expect(isolation.kind == (group.status.mode == "pv" ? "shared" : "hardware"))
        #expect(isolation.meaning.contains("root in its guest") == (group.status.mode == "pv"))
    }
}
