/// How a group is persisted: part of its configuration.
public struct PersistenceSettings: Codable, Sendable, Hashable {
    /// How often it is checkpointed.
    public var period = PersistencePeriod.standard
    /// How much of its history is kept.
    public var history = HistoryRule.standard
    /// Bytes of the store that the history may take beyond the newest checkpoint; nil: what the store has room for.
    public var historyBytes: Int?
    /// The least that can be asked for.
    public static let historyBytesMin = 64 << 20
    /// Where its checkpoints go; each at most once.
    public var backends: [BackendKind] = [.store]

    /// Checkpoints a hundred times a second to the local store.
    public init() {}
}

/// A place for a group's checkpoints.
public enum BackendKind: String, Codable, Sendable, Hashable, CaseIterable {
    /// The store of this host: durable.
    case store
    /// The memory of the group's VMM process: gone with it, of use to roll back.
    case memory

    /// Reads a name.
    ///
    /// - Throws: `GroupError` (`.invalidValue`) that lists those there are.
    public init(parsing text: String) throws(GroupError) {
        guard let kind = BackendKind(rawValue: text) else {
            throw GroupError(
                .invalidValue, "Unknown backend \"\(text.prefix(40))\"",
                remedy: "There are: \(BackendKind.allCases.map(\.rawValue).joined(separator: ", ")).")
        }
        self = kind
    }
}
