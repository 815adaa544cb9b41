/// Which checkpoints of a history are kept: all recent ones, and ever fewer the older they are.
public struct RetentionPolicy: Hashable, Sendable {
    /// Checkpoints whose number is a multiple of `step` are kept while they are less than `window` behind the newest.
    public struct Rule: Hashable, Sendable {
        /// A power of eight fits the merges of tables: then thinning frees most.
        public var step: UInt64
        /// In numbers of checkpoints.
        public var window: UInt64

        /// Makes a rule.
        public init(step: UInt64, window: UInt64) {
            self.step = step
            self.window = window
        }
    }

    /// A checkpoint is kept when any rule keeps it.
    public var rules: [Rule]

    /// Makes a policy.
    public init(rules: [Rule]) { self.rules = rules }

    /// All of the last 512, every 8th of 4,096, every 64th of 32,768, every 512th of 262,144, every 4,096th for ever.
    public static let standard = RetentionPolicy(rules: [
        Rule(step: 1, window: 512), Rule(step: 8, window: 4096), Rule(step: 64, window: 32768), Rule(step: 512, window: 262_144),
        Rule(step: 4096, window: .max),
    ])

    /// The last so many, and nothing else.
    public static func last(_ count: UInt64) -> RetentionPolicy { RetentionPolicy(rules: [Rule(step: 1, window: count)]) }

    /// Whether a checkpoint is kept for its number alone.
    public func keeps(_ number: UInt64, newest: UInt64) -> Bool {
        let age = newest >= number ? newest - number : 0
        return rules.contains { age < $0.window && number.isMultiple(of: max($0.step, 1)) }
    }
}
