internal import CLinux
internal import FoundationEssentials
public import Logging

/// Log messages as lines of JSON on standard error: `time`, `level`, `message`, and what belongs to it.
public struct JSONLogHandler: LogHandler {
    /// What every message carries.
    public var metadata: Logger.Metadata = [:]
    /// The least level written.
    public var logLevel: Logger.Level

    /// A handler.
    public init(level: Logger.Level) { logLevel = level }

    /// One value of the metadata.
    public subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    /// Writes a line.
    public func log(event: LogEvent) {
        var fields: [String: String] = [:]
        for (key, value) in metadata { fields[key] = "\(value)" }
        for (key, value) in event.metadata ?? [:] { fields[key] = "\(value)" }
        fields["time"] = "\(WallClock.iso(WallClock.milliseconds))Z"
        fields["level"] = event.level.rawValue
        fields["message"] = "\(event.message)"
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        guard var line = try? [UInt8](encoder.encode(fields)) else { return }
        line.append(10)
        // One write a line, so that lines of several threads do not mix.
        _ = clinux_write(2, line, line.count)
    }
}
