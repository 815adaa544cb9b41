internal import CLinux

/// A point of time as text of RFC 3339 in UTC, for example `2026-01-31T12:00:00.123456Z`, without Foundation's calendars.
public enum Timestamp {
    /// Now.
    public static func now() -> String { format(nanosecondsSince1970: clinux_wall_nanoseconds()) }

    /// Nanoseconds since 1970.
    public static func wallClockNanoseconds() -> Int64 { clinux_wall_nanoseconds() }

    /// Writes a time with microseconds.
    public static func format(nanosecondsSince1970 nanoseconds: Int64) -> String {
        let microseconds = nanoseconds / 1000
        let seconds = Int(microseconds / 1_000_000)
        let (year, month, day) = civil(daysSince1970: Int((Double(seconds) / 86400).rounded(.down)))
        let second = ((seconds % 86400) + 86400) % 86400
        return padded(year, 4) + "-" + padded(month, 2) + "-" + padded(day, 2) + "T" + padded(second / 3600, 2) + ":"
            + padded(second / 60 % 60, 2) + ":" + padded(second % 60, 2) + "." + padded(Int(microseconds % 1_000_000), 6) + "Z"
    }

    /// Seconds since 1970 of a text that `format` wrote; nil for anything else.
    public static func seconds(of text: String) -> Int? {
        let numbers = text.split { !$0.isNumber }.prefix(6).compactMap { Int($0) }
        guard numbers.count == 6, (1970...9999).contains(numbers[0]), (1...12).contains(numbers[1]), (1...31).contains(numbers[2]) else {
            return nil
        }
        let days = self.days(year: numbers[0], month: numbers[1], day: numbers[2])
        return days * 86400 + numbers[3] * 3600 + numbers[4] * 60 + numbers[5]
    }

    /// Nanoseconds since 1970 of a text that `format` wrote, or of one with a shorter fraction or none; nil for anything else.
    public static func nanoseconds(of text: String) -> Int64? {
        guard text.hasSuffix("Z"), let seconds = seconds(of: text) else { return nil }
        let parts = text.dropLast().split(separator: ".", omittingEmptySubsequences: false)
        guard parts.count <= 2 else { return nil }
        let digits = parts.count == 2 ? String(parts[1]) : "0"
        guard (1...9).contains(digits.count), digits.allSatisfy({ $0.isASCII && $0.isNumber }),
            let fraction = Int64(digits + String(repeating: "0", count: 9 - digits.count))
        else { return nil }
        return Int64(seconds) * 1_000_000_000 + fraction
    }

    /// How long ago a time was, in words: "5 seconds", "3 hours".
    public static func age(of text: String, now: Int64 = Timestamp.wallClockNanoseconds()) -> String {
        guard let then = seconds(of: text) else { return "?" }
        let seconds = max(0, Int(now / 1_000_000_000) - then)
        let units = [(86400, "day"), (3600, "hour"), (60, "minute")]
        for (length, name) in units where seconds >= length {
            let count = seconds / length
            return "\(count) \(name)\(count == 1 ? "" : "s")"
        }
        return "\(seconds) second\(seconds == 1 ? "" : "s")"
    }

    private static func padded(_ value: Int, _ width: Int) -> String {
        let digits = String(value)
        return String(repeating: "0", count: max(0, width - digits.count)) + digits
    }

    // The proleptic Gregorian calendar counted in eras of 400 years, as in H. Hinnant's "chrono-compatible low-level date algorithms".
    private static func civil(daysSince1970 days: Int) -> (year: Int, month: Int, day: Int) {
        let shifted = days + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        return (yearOfEra + era * 400 + (month <= 2 ? 1 : 0), month, dayOfYear - (153 * shiftedMonth + 2) / 5 + 1)
    }

    private static func days(year: Int, month: Int, day: Int) -> Int {
        let shiftedYear = month <= 2 ? year - 1 : year
        let era = shiftedYear / 400
        let yearOfEra = shiftedYear - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }
}
