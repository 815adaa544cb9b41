/// A length of time as people write it: `10ms`, `0.5s`, `2m`, `1h`, `1d`.
public enum TimeSpan {
    private static let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 6e7), ("h", 3.6e9), ("d", 8.64e10)]
    /// Some thirty years: what is longer is a slip.
    private static let secondsMax = 1e9

    /// Microseconds of a number with a unit; nil for anything else.
    static func microseconds(of text: String) -> Double? {
        for (unit, factor) in units where text.hasSuffix(unit) {
            return Double(text.dropLast(unit.utf8.count)).map { $0 * factor }
        }
        return nil
    }

    /// Seconds of a number with a unit, or of a number alone.
    ///
    /// - Throws: `GroupError` (`.invalidValue`) that says how to write one.
    public static func seconds(parsing text: String) throws(GroupError) -> Double {
        guard let seconds = microseconds(of: text).map({ $0 / 1e6 }) ?? Double(text), seconds.isFinite, abs(seconds) <= secondsMax else {
            throw GroupError(
                .invalidValue, "Invalid time \"\(text.prefix(40))\"", remedy: "Write seconds, or a number with a unit: 500ms, 10s, 2m, 1h.")
        }
        return seconds
    }
}
