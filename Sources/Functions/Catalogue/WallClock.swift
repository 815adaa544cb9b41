internal import CLinux

/// The time of day, as functions and their clients are told it.
enum WallClock {
    /// Milliseconds since 1970.
    static var milliseconds: Int64 { clinux_wall_nanoseconds() / 1_000_000 }

    /// Now in the form of Lambda's `LastModified`: `2026-01-31T12:00:00.123+0000`.
    static func lambdaTimestamp(_ milliseconds: Int64 = WallClock.milliseconds) -> String { "\(iso(milliseconds))+0000" }

    /// `2026-01-31T12:00:00.123`, UTC.
    static func iso(_ milliseconds: Int64) -> String {
        let seconds = milliseconds / 1000
        let (year, month, day) = civil(Int(seconds / 86400))
        let second = Int(seconds % 86400)
        return "\(padded(year, 4))-\(padded(month, 2))-\(padded(day, 2))T\(padded(second / 3600, 2)):\(padded(second / 60 % 60, 2)):"
            + "\(padded(second % 60, 2)).\(padded(Int(milliseconds % 1000), 3))"
    }

    /// Days since 1970 of a date, by the algorithm `days_from_civil` of Howard Hinnant.
    static func days(year: Int, month: Int, day: Int) -> Int {
        let shifted = month <= 2 ? year - 1 : year
        let era = (shifted >= 0 ? shifted : shifted - 399) / 400
        let yearOfEra = shifted - era * 400
        let dayOfYear = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1
        return era * 146_097 + yearOfEra * 365 + yearOfEra / 4 - yearOfEra / 100 + dayOfYear - 719_468
    }

    private static func padded(_ value: Int, _ width: Int) -> String {
        let text = String(value)
        return String(repeating: "0", count: max(0, width - text.utf8.count)) + text
    }

    /// Days since 1970 as a date, by the algorithm `civil_from_days` of Howard Hinnant.
    private static func civil(_ days: Int) -> (Int, Int, Int) {
        let shifted = days + 719_468
        let era = shifted / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let month = (5 * dayOfYear + 2) / 153
        let day = dayOfYear - (153 * month + 2) / 5 + 1
        return (yearOfEra + era * 400 + (month < 10 ? 0 : 1), month < 10 ? month + 3 : month - 9, day)
    }
}
