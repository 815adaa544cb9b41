/// The name of a group: it is also a directory name, so its characters are few.
public struct GroupName: Hashable, Sendable, Codable, CustomStringConvertible {
    /// The most characters of a name.
    public static let charactersMax = 63

    /// The name's text.
    public let text: String

    /// The name's text.
    public var description: String { text }

    /// Checks a name: a letter or digit, then letters, digits, `_`, `.` and `-`.
    ///
    /// - Throws: `GroupError` (`.invalidValue`) that quotes the rule.
    public init(_ text: String) throws(GroupError) {
        guard GroupName.isValid(text) else {
            throw GroupError(
                .invalidValue, "Invalid group name \"\(text.prefix(80))\"",
                remedy: "A name has 1 to \(GroupName.charactersMax) of the characters A-Z a-z 0-9 _ . - and starts with a letter or digit.")
        }
        self.text = text
    }

    /// Reads a checked name.
    public init(from decoder: any Decoder) throws {
        try self.init(try decoder.singleValueContainer().decode(String.self))
    }

    /// Writes the text.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(text)
    }

    /// Whether a text follows the rule for names.
    public static func isValid(_ text: String) -> Bool {
        let bytes = Array(text.utf8)
        guard let first = bytes.first, bytes.count <= charactersMax, isAlphanumeric(first) else { return false }
        return bytes.allSatisfy { isAlphanumeric($0) || $0 == UInt8(ascii: "_") || $0 == UInt8(ascii: ".") || $0 == UInt8(ascii: "-") }
    }

    private static func isAlphanumeric(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"), UInt8(ascii: "0")...UInt8(ascii: "9"): true
        default: false
        }
    }

    private static let adjectives = [
        "amber", "brave", "calm", "clear", "dawn", "early", "fair", "gentle", "golden", "keen", "light", "mild", "polar", "quick",
        "quiet", "rosy", "silver", "solar", "still", "swift", "vivid", "warm", "wide", "young",
    ]
    private static let nouns = [
        "arc", "band", "beam", "cloud", "comet", "curtain", "field", "flare", "glow", "halo", "ice", "lake", "moon", "night", "north",
        "owl", "pole", "ray", "ridge", "river", "sky", "snow", "star", "wind",
    ]

    /// Makes up a friendly name, with a number once the plain ones tend to be taken.
    public static func generated(attempt: Int, using generator: inout some RandomNumberGenerator) -> String {
        let adjective = adjectives.randomElement(using: &generator) ?? "polar"
        let noun = nouns.randomElement(using: &generator) ?? "star"
        let plain = "\(adjective)-\(noun)"
        return attempt < 3 ? plain : "\(plain)-\(UInt32.random(in: 2...9999, using: &generator))"
    }
}
