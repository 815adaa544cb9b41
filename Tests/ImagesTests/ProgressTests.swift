import Synchronization
import Testing

@testable import Images

/// What a build has told.
private final class Seen: Sendable {
    private let events = Mutex<[BuildEvent]>([])
    var all: [BuildEvent] { events.withLock { $0 } }
    func note(_ event: BuildEvent) { events.withLock { $0.append(event) } }
}

@Suite struct ProgressTests {
    /// What a recipe says of its steps is told while it runs: it ends when the test has seen it.
    @Test func stepsAreToldWhileARecipeRuns() async throws {
        let fixture = try Fixture()
        let wait = "for i in $(seq 600); do [ ! -e '\(fixture.path)/go' ] || break; sleep 0.1; done\n"
        let script = "echo 'I: doing one thing...' >&2\necho noise >&2\necho 'I: doing another...' >&2\n" + wait + Fixture.goodImage
        let seen = Seen()
        let store = fixture.images(script)
        async let build = onThread { try store.ensureBase { seen.note($0) } }
        while !seen.all.contains(.step("doing another")) { try await Task.sleep(for: .milliseconds(5)) }
        while !seen.all.contains(where: { if case .written(let bytes) = $0 { bytes > 0 } else { false } }) {
            try await Task.sleep(for: .milliseconds(5))
        }
        try fixture.write("", to: "go")
        _ = try await build
        let steps = seen.all.compactMap { if case .step(let step) = $0 { step } else { nil } }
        #expect(steps == ["installing a minimal Debian into image base", "doing one thing", "doing another"])
    }
}
