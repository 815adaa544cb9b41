/// A content address of the image specification: "sha256:" or "sha512:" and lower-case hexadecimal.
public struct ContentDigest: Hashable, Sendable, Codable, CustomStringConvertible {
    /// The hash functions that are known.
    enum Algorithm: String { case sha256, sha512 }

    let algorithm: Algorithm
    /// The hash in hexadecimal, which is also a safe file name.
    let hexadecimal: String

    /// "sha256:…".
    public var description: String { "\(algorithm.rawValue):\(hexadecimal)" }

    /// Checks a digest; nil for anything else.
    public init?(_ text: String) {
        let parts = text.utf8.split(separator: UInt8(ascii: ":"), maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2, let algorithm = Algorithm(rawValue: String(Substring(parts[0]))),
            parts[1].count == (algorithm == .sha256 ? 64 : 128),
            parts[1].allSatisfy({
                (UInt8(ascii: "0")...UInt8(ascii: "9")).contains($0) || (UInt8(ascii: "a")...UInt8(ascii: "f")).contains($0)
            })
        else { return nil }
        self.algorithm = algorithm
        hexadecimal = String(Substring(parts[1]))
    }

    /// Reads the text form.
    ///
    /// - Throws: `DecodingError` for anything else.
    public init(from decoder: any Decoder) throws {
        let text = try decoder.singleValueContainer().decode(String.self)
        guard let digest = ContentDigest(text) else {
            throw DecodingError.dataCorrupted(
                DecodingError.Context(codingPath: decoder.codingPath, debugDescription: "\(quoted(text)) is no digest (sha256 or sha512)"))
        }
        self = digest
    }

    /// Writes the text form.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(description)
    }
}
