/// Which checkpoint of a history is meant, as people write it: `latest`, a number, a name, or a time.
///
/// A time is RFC 3339 in UTC (`2026-01-31T12:00:00Z`) or an age (`-90s`, `-5m`, `-2h`, `-1d`); it means the last checkpoint
/// that is not younger.
public enum CheckpointChoice: Hashable, Sendable, CustomStringConvertible {
    /// The newest durable one.
    case latest
    /// By number.
    case number(UInt64)
    /// By name.
    case name(String)
    /// The last one at or before a time, in nanoseconds since 1970.
    case time(Int64)

    /// Reads a selector.
    ///
    /// - Throws: `GroupError` (`.invalidValue`) that says how to write one.
    public init(parsing text: String, now: Int64 = Timestamp.wallClockNanoseconds()) throws(GroupError) {
        if text.isEmpty || text == "latest" {
            self = .latest
        } else if text.allSatisfy({ $0.isASCII && $0.isNumber }) {
            guard let number = UInt64(text) else { throw CheckpointChoice.refusal(text) }
            self = .number(number)
        } else if text.hasPrefix("-") {
            guard let age = CheckpointChoice.seconds(of: text.dropFirst()) else { throw CheckpointChoice.refusal(text) }
            self = .time(now - age * 1_000_000_000)
        } else if text.contains("T"), text.contains(":") {
            guard let time = Timestamp.nanoseconds(of: text) else { throw CheckpointChoice.refusal(text) }
            self = .time(time)
        } else {
            self = .name(try CheckpointName(text).text)
        }
    }

    private static func seconds(of text: Substring) -> Int64? {
        let units: [Character: Int64] = ["s": 1, "m": 60, "h": 3600, "d": 86400]
        guard let last = text.last, let unit = units[last], let count = Int64(text.dropLast()), (0...1_000_000_000).contains(count) else {
            return nil
        }
        let (product, overflow) = count.multipliedReportingOverflow(by: unit)
        return overflow || product > 10_000_000_000 / 2 ? nil : product
    }

    private static func refusal(_ text: String) -> GroupError {
        GroupError(
            .invalidValue, "Invalid checkpoint \"\(text.prefix(80))\"",
            remedy: "Write latest, a number, a name, a time (2026-01-31T12:00:00Z) or an age (-30s, -5m, -2h, -1d).")
    }

    /// The selector in words.
    public var description: String {
        switch self {
        case .latest: "latest"
        case .number(let number): "\(number)"
        case .name(let name): "\"\(name)\""
        case .time(let time): "at \(Timestamp.format(nanosecondsSince1970: time))"
        }
    }
}

/// The name of a checkpoint: never to be taken for a number, a time or an option.
public struct CheckpointName: Hashable, Sendable {
    /// The name's text.
    public let text: String

    /// Checks a name: as a group's, beginning with a letter, and not `latest`.
    ///
    /// - Throws: `GroupError` (`.invalidValue`) that quotes the rule.
    public init(_ text: String) throws(GroupError) {
        guard GroupName.isValid(text), text.first?.isLetter ?? false, text != "latest" else {
            throw GroupError(
                .invalidValue, "Invalid checkpoint name \"\(text.prefix(80))\"",
                remedy: "A name has 1 to \(GroupName.charactersMax) of the characters A-Z a-z 0-9 _ . -, starts with a letter, "
                    + "and is not \"latest\".")
        }
        self.text = text
    }
}
