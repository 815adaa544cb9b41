import Testing

@testable import Groups

struct PersistenceValueTests {
    @Test(arguments: [("10ms", 10_000), ("100/s", 10_000), ("0.5s", 500_000), ("2m", 120_000_000), ("1ms", 1000), ("24h", 86_400_000_000)])
    func periodsAreRead(_ text: String, _ microseconds: Int) throws {
        let period = try PersistencePeriod(parsing: text)
        #expect(period.microseconds == microseconds)
        #expect(try PersistencePeriod(parsing: period.description) == period)
    }

    @Test(arguments: ["", "0", "0/s", "-1s", "10", "1us", "25h", "nan/s", "inf", "1e99h", "s"])
    func otherPeriodsAreRefused(_ text: String) { #expect(throws: GroupError.self) { try PersistencePeriod(parsing: text) } }

    @Test func checkpointsAreChosen() throws {
        #expect(try CheckpointChoice(parsing: "latest") == .latest)
        #expect(try CheckpointChoice(parsing: "17") == .number(17))
        #expect(try CheckpointChoice(parsing: "before-upgrade") == .name("before-upgrade"))
        #expect(try CheckpointChoice(parsing: "-90s", now: 100_000_000_000) == .time(10_000_000_000))
        #expect(try CheckpointChoice(parsing: "1970-01-01T00:00:01.5Z") == .time(1_500_000_000))
        for text in ["-5", "-x", "-99999999999d", "99999999999999999999999", "2026-13-01T00:00:00Z", "a b", "../x"] {
            #expect(throws: GroupError.self, "\(text)") { try CheckpointChoice(parsing: text) }
        }
    }

    @Test func checkpointNamesAreNoNumbers() throws {
        _ = try CheckpointName("v1.2")
        for text in ["", "1a", "latest", "a/b", String(repeating: "n", count: 64)] {
            #expect(throws: GroupError.self, "\(text)") { try CheckpointName(text) }
        }
    }

    @Test func historiesAreRead() throws {
        #expect(try HistoryRule(parsing: "standard") == .standard)
        #expect(try HistoryRule(parsing: "all") == .all)
        #expect(try HistoryRule(parsing: "500") == .latest(500))
        for text in ["0", "-1", "many", "1000001"] { #expect(throws: GroupError.self) { try HistoryRule(parsing: text) } }
    }

    @Test func addressesAreRead() {
        #expect(CheckpointAddress(parsing: "group/a@12") == CheckpointAddress(stream: "group/a", number: 12))
        for text in ["", "@1", "group/a", "group/a@", "group/a@x"] { #expect(CheckpointAddress(parsing: text) == nil) }
    }

    @Test func envelopesGoThereAndBack() throws {
        var context = try example()
        context.outputBytes = 12
        let bytes = CheckpointEnvelope.encode(context: try CheckpointEnvelope.encode(context), machine: [1, 2, 3])
        let envelope = try CheckpointEnvelope(bytes, of: "it")
        #expect(envelope.context == context)
        #expect(Array(envelope.machine) == [1, 2, 3])
    }

    /// Every cut and every flipped byte of the head is refused or read, never a crash; other versions say so.
    @Test func hostileEnvelopesAreRefused() throws {
        let bytes = CheckpointEnvelope.encode(context: try CheckpointEnvelope.encode(try example()), machine: [1, 2, 3])
        for count in 0..<(bytes.count - 3) { #expect(throws: GroupError.self) { try CheckpointEnvelope(Array(bytes[..<count]), of: "it") } }
        for index in 0..<16 {
            var damaged = bytes
            damaged[index] ^= 0xFF
            #expect(throws: GroupError.self, "byte \(index)") { try CheckpointEnvelope(damaged, of: "it") }
        }
        var newer = bytes
        newer[8] = 2
        let error = #expect(throws: GroupError.self) { try CheckpointEnvelope(newer, of: "it") }
        #expect(error?.remedy?.contains("newer version") ?? false)
    }

    private func example() throws -> GroupContext {
        GroupContext(
            configuration: GroupConfiguration(name: try GroupName("g"), image: "base", memoryBytes: 64 << 20, command: ["true"]),
            session: 80, hasNetwork: true)
    }
}
