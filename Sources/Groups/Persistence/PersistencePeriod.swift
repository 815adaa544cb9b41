/// How often a group is checkpointed, as people write it: `10ms`, `0.5s`, `100/s`, or `off` for checkpoints by hand alone.
public struct PersistencePeriod: Hashable, Sendable, Codable, CustomStringConvertible {
    /// The paper's hundred a second (section 3.1).
    public static let standard = PersistencePeriod(microseconds: 10_000)
    /// Only when asked.
    public static let manual = PersistencePeriod(microseconds: nil)
    /// Shorter periods leave the guest no time to run.
    public static let microsecondsMin = 1000
    /// A day.
    public static let microsecondsMax = 86_400_000_000

    /// The time from one checkpoint to the next; nil when there are only those that somebody asks for.
    public let microseconds: Int?

    /// Takes a period that is known to be within the limits.
    public init(microseconds: Int?) { self.microseconds = microseconds }

    /// Reads a period.
    ///
    /// - Throws: `GroupError` (`.invalidValue`) that says how to write one.
    public init(parsing text: String) throws(GroupError) {
        if text == "off" {
            self = .manual
            return
        }
        guard let value = PersistencePeriod.microseconds(of: text),
            (Double(PersistencePeriod.microsecondsMin)...Double(PersistencePeriod.microsecondsMax)).contains(value)
        else {
            throw GroupError(
                .invalidValue, "Invalid period \"\(text.prefix(40))\"",
                remedy: "Write a time from 1ms to 24h (10ms, 0.5s, 2m), a rate (100/s), or off for checkpoints by hand alone.")
        }
        microseconds = Int(value)
    }

    private static func microseconds(of text: String) -> Double? {
        if text.hasSuffix("/s") { return Double(text.dropLast(2)).map { 1_000_000 / $0 } }
        return TimeSpan.microseconds(of: text)
    }

    /// Checkpoints a second; nil for `manual`.
    public var rate: Double? { microseconds.map { 1e6 / Double($0) } }

    /// The text that `init(parsing:)` reads.
    public var description: String {
        guard let microseconds else { return "off" }
        if microseconds % 1_000_000 == 0 { return "\(microseconds / 1_000_000)s" }
        return microseconds % 1000 == 0 ? "\(microseconds / 1000)ms" : "\(microseconds)us"
    }

    /// Reads the text form.
    public init(from decoder: any Decoder) throws {
        try self.init(parsing: try decoder.singleValueContainer().decode(String.self))
    }

    /// Writes the text form.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
