/// How much of a group's history is kept, as people write it: `standard`, `all`, or the number of the latest checkpoints.
///
/// Named checkpoints are kept in any case, and the newest one.
public enum HistoryRule: Hashable, Sendable, Codable, CustomStringConvertible {
    /// The store's own rule: all of the latest, ever fewer of older ones (docs/design/store.md, "Retention").
    case standard
    /// Everything, as long as there is room.
    case all
    /// So many of the latest.
    case latest(Int)

    /// The most checkpoints that can be asked for.
    public static let latestMax = 1_000_000

    /// Reads a rule.
    ///
    /// - Throws: `GroupError` (`.invalidValue`) that says how to write one.
    public init(parsing text: String) throws(GroupError) {
        switch text {
        case "standard": self = .standard
        case "all": self = .all
        default:
            guard let count = Int(text), (1...HistoryRule.latestMax).contains(count) else {
                throw GroupError(
                    .invalidValue, "Invalid history \"\(text.prefix(40))\"",
                    remedy: "Write standard, all, or how many of the latest checkpoints to keep, for example 1000.")
            }
            self = .latest(count)
        }
    }

    /// The text that `init(parsing:)` reads.
    public var description: String {
        switch self {
        case .standard: "standard"
        case .all: "all"
        case .latest(let count): "\(count)"
        }
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
