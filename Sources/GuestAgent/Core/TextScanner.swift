#if !hasFeature(Embedded)
    public import AgentProtocol
#endif

/// Walks over kernel-made text: fields, numbers, lines.
///
/// Never reads past the end and never traps on odd input.
public struct TextScanner {
    private let bytes: [UInt8]
    private var position: Int
    private let end: Int

    /// Scans all bytes.
    public init(_ bytes: [UInt8]) {
        self.bytes = bytes
        position = 0
        end = bytes.count
    }

    private init(_ bytes: [UInt8], _ start: Int, _ end: Int) {
        self.bytes = bytes
        position = start
        self.end = end
    }

    /// Whether nothing is left.
    public var isAtEnd: Bool { position >= end }

    /// The next byte without taking it.
    public var peek: UInt8? { position < end ? bytes[position] : nil }

    /// A scanner for the next line (without its newline), or nil at the end.
    public mutating func nextLine() -> TextScanner? {
        guard position < end else { return nil }
        let start = position
        while position < end && bytes[position] != 10 { position += 1 }
        let line = TextScanner(bytes, start, position)
        position += 1
        return line
    }

    /// Skips blanks and tabs.
    public mutating func skipBlanks() {
        while position < end && (bytes[position] == 32 || bytes[position] == 9) { position += 1 }
    }

    /// Skips `count` bytes, or what is left.
    public mutating func skip(_ count: Int) { position = min(end, position + max(0, count)) }

    /// Takes `prefix` when the rest starts with it.
    public mutating func take(_ prefix: StaticString) -> Bool {
        let count = prefix.utf8CodeUnitCount
        guard end - position >= count else { return false }
        for index in 0..<count where bytes[position + index] != prefix.utf8Start[index] { return false }
        position += count
        return true
    }

    /// The next run of bytes up to a blank; empty at the end.
    public mutating func word() -> Text {
        skipBlanks()
        let start = min(position, end)
        while position < end && bytes[position] != 32 && bytes[position] != 9 { position += 1 }
        return Text(bytes[start..<max(start, position)])
    }

    /// The bytes up to `separator`, which is taken too; nil when it does not come.
    public mutating func field(upTo separator: UInt8) -> Text? {
        var index = position
        while index < end && bytes[index] != separator { index += 1 }
        guard index < end else { return nil }
        defer { position = index + 1 }
        return Text(bytes[position..<index])
    }

    /// Everything up to the last occurrence of `separator`, which is taken too.
    public mutating func field(upToLast separator: UInt8) -> Text? {
        var index = end - 1
        while index >= position && bytes[index] != separator { index -= 1 }
        guard index >= position else { return nil }
        defer { position = index + 1 }
        return Text(bytes[position..<index])
    }

    /// All that is left.
    public mutating func rest() -> Text {
        guard position < end else { return Text() }
        defer { position = end }
        return Text(bytes[position..<end])
    }

    /// A number in base 8, 10 or 16, with an optional minus sign before a decimal one; nil without a digit or out of range.
    public mutating func number(_ radix: Int64 = 10) -> Int64? {
        skipBlanks()
        let start = position
        var negative = false
        if radix == 10, position < end, bytes[position] == UInt8(ascii: "-") {
            negative = true
            position += 1
        }
        var value: Int64 = 0
        var digits = 0
        while position < end, let digit = TextScanner.digit(bytes[position]), digit < radix {
            let (scaled, overflow) = value.multipliedReportingOverflow(by: radix)
            let (sum, carry) = scaled.addingReportingOverflow(digit)
            guard !overflow, !carry else {
                position = start
                return nil
            }
            value = sum
            digits += 1
            position += 1
        }
        guard digits > 0 else {
            position = start
            return nil
        }
        return negative ? -value : value
    }

    /// An unsigned number of up to 64 bits; nil without a digit or out of range.
    public mutating func unsigned(_ radix: UInt64 = 10) -> UInt64? {
        skipBlanks()
        let start = position
        var value: UInt64 = 0
        while position < end, let digit = TextScanner.digit(bytes[position]), UInt64(digit) < radix {
            let (scaled, overflow) = value.multipliedReportingOverflow(by: radix)
            let (sum, carry) = scaled.addingReportingOverflow(UInt64(digit))
            guard !overflow, !carry else {
                position = start
                return nil
            }
            value = sum
            position += 1
        }
        return position > start ? value : nil
    }

    private static func digit(_ byte: UInt8) -> Int64? {
        switch byte {
        case 48...57: Int64(byte) - 48
        case 97...102: Int64(byte) - 87
        case 65...70: Int64(byte) - 55
        default: nil
        }
    }
}
