/// How what a function prints is written (`LoggingConfig`).
public struct LoggingSettings: Sendable, Hashable, Codable {
    /// The levels of Lambda's functions, from the most talkative one.
    static let applicationLevels = ["TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL"]
    /// The levels of Lambda's own lines.
    static let systemLevels = ["DEBUG", "INFO", "WARN"]

    /// Whether the runtime's and the gateway's lines are JSON.
    public var isJSON = false
    /// The least level of the function's own messages; nil: Lambda's usual one.
    public var applicationLevel: String?
    /// The least level of the gateway's lines; nil: Lambda's usual one.
    public var systemLevel: String?
    /// The log group that the function is told; nil: the usual one.
    public var group: String?

    /// As functions log that say nothing of it.
    public init() {}

    /// Whether the gateway's own lines are left out.
    var isQuiet: Bool { isJSON && systemLevel == "WARN" }

    /// What the runtime finds in its environment.
    var environment: [String: String] {
        // Nothing for text, which is the usual: Python reads these when it starts, and a process that was loaded before serves then.
        guard isJSON else { return [:] }
        return ["AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": applicationLevel ?? "INFO"]
    }

    /// Refuses what no function may have.
    func check() throws(CatalogueError) {
        if !isJSON, applicationLevel != nil || systemLevel != nil {
            throw .invalid("LoggingConfig: ApplicationLogLevel and SystemLogLevel need the LogFormat JSON")
        }
        if let level = applicationLevel, !LoggingSettings.applicationLevels.contains(level) {
            throw .invalid("LoggingConfig.ApplicationLogLevel must be one of \(LoggingSettings.applicationLevels.joined(separator: ", "))")
        }
        if let level = systemLevel, !LoggingSettings.systemLevels.contains(level) {
            throw .invalid("LoggingConfig.SystemLogLevel must be one of \(LoggingSettings.systemLevels.joined(separator: ", "))")
        }
        if let group {
            let isPlain = group.utf8.allSatisfy {
                (48...57).contains($0) || (65...90).contains($0) || (97...122).contains($0) || [35, 45, 46, 47, 95].contains($0)
            }
            guard (1...512).contains(group.utf8.count), isPlain else { throw .invalid("LoggingConfig.LogGroup is no name of a log group") }
        }
    }
}
