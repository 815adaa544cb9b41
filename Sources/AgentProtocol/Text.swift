/// A byte string as the kernel gives it: a path, an argument, a name.
///
/// Usually UTF-8, never assumed to be.
///
/// The guest agent has no Unicode tables, so text stays bytes on its side; the host shows it as a `String`.
public struct Text: Hashable, Sendable {
    /// The bytes, without a terminator.
    public var bytes: [UInt8]

    /// Wraps bytes.
    public init(_ bytes: [UInt8] = []) { self.bytes = bytes }

    /// Wraps a slice of bytes.
    public init(_ bytes: ArraySlice<UInt8>) { self.bytes = [UInt8](bytes) }

    /// Whether there is no byte.
    public var isEmpty: Bool { bytes.isEmpty }

    /// Whether the text begins with `prefix`.
    public func hasPrefix(_ prefix: StaticString) -> Bool {
        let count = prefix.utf8CodeUnitCount
        guard bytes.count >= count else { return false }
        for index in 0..<count where bytes[index] != prefix.utf8Start[index] { return false }
        return true
    }

    /// Whether the text ends with `suffix`.
    public func hasSuffix(_ suffix: StaticString) -> Bool {
        let count = suffix.utf8CodeUnitCount
        guard bytes.count >= count else { return false }
        let base = bytes.count - count
        for index in 0..<count where bytes[base + index] != suffix.utf8Start[index] { return false }
        return true
    }

    /// The text without its first `count` bytes.
    public func dropFirst(_ count: Int) -> Text { Text(bytes.dropFirst(count)) }

    /// The text without its last `count` bytes.
    public func dropLast(_ count: Int) -> Text { Text(bytes.dropLast(count)) }

    /// The two texts joined.
    @inline(never)
    public static func + (left: Text, right: Text) -> Text { Text(left.bytes + right.bytes) }

    /// The decimal spelling of a number.
    public static func decimal(_ value: Int) -> Text {
        var digits: [UInt8] = []
        var rest = value.magnitude
        repeat {
            digits.append(48 + UInt8(truncatingIfNeeded: rest % 10))
            rest /= 10
        } while rest > 0
        if value < 0 { digits.append(45) }
        digits.reverse()
        return Text(digits)
    }
}

extension Text: ExpressibleByStringLiteral {
    /// The bytes of a literal.
    @inline(never)  // or every literal of the agent becomes a loop of its own
    public init(stringLiteral value: StaticString) {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(value.utf8CodeUnitCount)
        for index in 0..<value.utf8CodeUnitCount { bytes.append(value.utf8Start[index]) }
        self.bytes = bytes
    }
}

#if !hasFeature(Embedded)
    extension Text: CustomStringConvertible, Codable {
        /// The UTF-8 bytes of a string.
        public init(_ string: String) { bytes = [UInt8](string.utf8) }

        /// The text as a string; bytes that are not UTF-8 become replacement characters.
        public var string: String { String(decoding: bytes, as: UTF8.self) }

        /// The same as `string`.
        public var description: String { string }

        /// Reads a string.
        public init(from decoder: any Decoder) throws {
            self.init(try decoder.singleValueContainer().decode(String.self))
        }

        /// Writes `string`.
        public func encode(to encoder: any Encoder) throws {
            var container = encoder.singleValueContainer()
            try container.encode(string)
        }
    }
#endif
