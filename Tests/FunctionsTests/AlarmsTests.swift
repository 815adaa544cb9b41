import Synchronization
import Testing

@testable import Functions

@Suite struct AlarmsTests {
    private final class Heard: Sendable {
        let names = Mutex<[String]>([])
        func note(_ name: String) { names.withLock { $0.append(name) } }
    }

    @Test func ringOnceInOrderUnlessCalledOff() async throws {
        let alarms = Alarms()
        let heard = Heard()
        _ = alarms.set(milliseconds: 300) { heard.note("last") }
        _ = alarms.set(milliseconds: 0) { heard.note("first") }
        let never = alarms.set(milliseconds: 100) { heard.note("never") }
        alarms.cancel(never)
        while heard.names.withLock({ $0.last }) != "last" { try await Task.sleep(for: .milliseconds(10)) }
        #expect(heard.names.withLock { $0 } == ["first", "last"])
        #expect(alarms.count == 0)
        // After all were heard it goes on with new ones.
        _ = alarms.set(milliseconds: 0) { heard.note("again") }
        while heard.names.withLock({ $0.last }) != "again" { try await Task.sleep(for: .milliseconds(10)) }
    }

    @Test func thoseCalledOffHoldNothing() {
        final class Held: Sendable {}
        let alarms = Alarms()
        weak var held: Held?
        do {
            let object = Held()
            held = object
            alarms.cancel(alarms.set(milliseconds: 80_000_000) { withExtendedLifetime(object) {} })
        }
        #expect(held == nil && alarms.count == 0)
    }
}
