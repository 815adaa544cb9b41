/// What the checkpoints of a stream take, as a collection found it.
public struct StreamSpace: Hashable, Sendable {
    /// A checkpoint's share.
    public struct Part: Hashable, Sendable {
        /// The checkpoint.
        public var number: UInt64
        /// What dropping it and all older ones would free, less what dropping all older ones alone would: bytes, in whole blocks.
        public var bytes: UInt64

        /// Names a share.
        public init(number: UInt64, bytes: UInt64) {
            self.number = number
            self.bytes = bytes
        }
    }

    /// The stream's name.
    public var name: String
    /// Whether a writer lives, who alone can thin it.
    public var isWritten: Bool
    /// Newest first; blocks count for the newest checkpoint that needs them, and for the first stream that was looked at.
    public var parts: [Part]

    /// Describes a stream.
    public init(name: String, isWritten: Bool, parts: [Part]) {
        self.name = name
        self.isWritten = isWritten
        self.parts = parts
    }

    /// Bytes that all but the newest checkpoint need beyond it.
    public var historyBytes: UInt64 { parts.dropFirst().reduce(0) { $0 &+ $1.bytes } }
}

/// How much room histories may take: under pressure the oldest checkpoints go first.
///
/// A store that takes more than `storeBytes` is relieved by all streams that are being written, each by its share of what their histories
/// take; a stream's history never keeps more than `historyBytes`. Named checkpoints count, but only the caller can drop them.
public struct SpaceBudget: Hashable, Sendable {
    /// What the whole store may take; nil for no limit.
    public var storeBytes: UInt64?
    /// What a history may take beyond its newest checkpoint; nil for no limit.
    public var historyBytes: UInt64?

    /// Makes a budget.
    public init(storeBytes: UInt64? = nil, historyBytes: UInt64? = nil) {
        self.storeBytes = storeBytes
        self.historyBytes = historyBytes
    }

    /// The oldest checkpoint of a stream that there is room for; nil when there is room for all.
    ///
    /// - Parameter usedBytes: what the store takes now.
    public func oldestKept(of stream: String, in streams: [StreamSpace], usedBytes: UInt64) -> UInt64? {
        guard let own = streams.first(where: { $0.name == stream }), let newest = own.parts.first else { return nil }
        let history = own.historyBytes
        let allowed = min(history - relief(by: history, of: streams, usedBytes: usedBytes), historyBytes ?? .max)
        guard allowed < history else { return nil }
        var sum: UInt64 = 0
        var oldest = newest.number
        for part in own.parts.dropFirst() {
            sum &+= part.bytes
            if sum > allowed { return oldest }
            oldest = part.number
        }
        return nil
    }

    /// A history's share of what is too much.
    private func relief(by history: UInt64, of streams: [StreamSpace], usedBytes: UInt64) -> UInt64 {
        guard let storeBytes, usedBytes > storeBytes else { return 0 }
        let all = streams.reduce(UInt64(0)) { $0 &+ ($1.isWritten ? $1.historyBytes : 0) }
        guard all > 0 else { return 0 }
        return UInt64(min(Double(history), (Double(usedBytes - storeBytes) * Double(history) / Double(all)).rounded(.up)))
    }
}

extension SpaceBudget {
    /// The same with so much less room, but never less than half: for what is written before somebody looks again.
    public func reserving(_ bytes: UInt64) -> SpaceBudget {
        func less(_ limit: UInt64?) -> UInt64? { limit.map { $0 - min($0 / 2, bytes) } }
        return SpaceBudget(storeBytes: less(storeBytes), historyBytes: less(historyBytes))
    }
}

extension Store {
    /// Collects; where a budget is exceeded, drops the oldest checkpoints of a stream and collects once more.
    ///
    /// - Throws: as `collect`, and what dropping meets.
    @discardableResult
    public func collect(within budget: SpaceBudget, thinning writer: StreamWriter) throws(StoreError) -> CollectionStatistics {
        let first = try collect()
        guard let oldest = budget.oldestKept(of: writer.name, in: first.spaces, usedBytes: first.usedBytes),
            try writer.drop(olderThan: oldest) > 0
        else { return first }
        var second = try collect()
        second.blocksFreed &+= first.blocksFreed
        second.blocksDiscarded &+= first.blocksDiscarded
        return second
    }
}
