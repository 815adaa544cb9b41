/// Whether a group is checkpointed as was promised, judged from facts of now and by nobody who could be stuck himself.
public struct CheckpointHealth: Codable, Sendable, Hashable {
    /// How it is.
    public enum State: String, Codable, Sendable, Hashable {
        /// The group has no backend.
        case none
        /// Checkpoints are made on request alone.
        case manual
        /// None are made, because the group is paused, rolled back or about to begin.
        case held
        /// None is durable yet since the backend was attached.
        case starting
        /// They are made as promised.
        case good
        /// They are made, but fewer than half of what was promised.
        case slow
        /// None has become durable for longer than promised.
        case late
        /// They wait for room.
        case noRoom
        /// None are made any more.
        case failed
    }

    /// What is known of one backend; times are nanoseconds of the host's monotonic clock.
    public struct Backend: Sendable, Hashable {
        /// Its name.
        public var name: String
        /// When the guest stood still for the newest checkpoint that is durable there; nil: there is none.
        public var durableStop: Int64?
        /// Checkpoints on their way.
        public var inFlight: Int
        /// Since when it is at what it does; nil: it waits for checkpoints.
        public var busySince: Int64?
        /// What its next checkpoint waits for.
        public var waitsFor: String?
        /// Why it takes none any more.
        public var failure: String?

        /// Describes a backend of which nothing is known.
        public init(name: String, durableStop: Int64? = nil, inFlight: Int = 0, busySince: Int64? = nil) {
            self.name = name
            self.durableStop = durableStop
            self.inFlight = inFlight
            self.busySince = busySince
        }
    }

    /// What a judgement is made of; times are nanoseconds of the host's monotonic clock.
    public struct Facts: Sendable, Hashable {
        /// The time.
        public var now: Int64
        /// Nanoseconds from one checkpoint to the next; nil: none are made by the clock.
        public var period: Int64?
        /// Whether that is for a time only, because the group is held.
        public var isHeld = false
        /// Since when checkpoints are to be made so.
        public var promisedSince: Int64
        /// Where they go.
        public var backends: [Backend]
        /// Checkpoints a second, of late.
        public var rate = 0.0
        /// What whoever makes them is at, in a few words.
        public var activity = ""
        /// Why none are made any more.
        public var failure: String?

        /// Describes a group.
        public init(now: Int64, period: Int64?, promisedSince: Int64, backends: [Backend]) {
            self.now = now
            self.period = period
            self.promisedSince = promisedSince
            self.backends = backends
        }
    }

    /// How it is.
    public var state: State
    /// What it waits for, or why; nil where all is as promised.
    public var reason: String?
    /// Milliseconds since the moment that the newest durable checkpoint holds, of the backend that is behind most; nil: there is none.
    public var ageMilliseconds: Double?

    /// Nothing is late by less than this, in nanoseconds beyond the period; with the time between two looks less than a second.
    public static let grace: Int64 = 500_000_000
    /// Nanoseconds after which a rate can be judged.
    private static let rateAfter: Int64 = 2_000_000_000
    private static let nanosecondsPerSecond = 1e9

    /// Judges.
    public init(_ facts: Facts) {
        let stops = facts.backends.map(\.durableStop)
        // A time when no checkpoints were promised does not count.
        let oldest = stops.compactMap { $0 }.min()
        ageMilliseconds = stops.contains(nil) ? nil : oldest.map { Double(facts.now - $0) / 1e6 }
        (state, reason) = CheckpointHealth.judge(facts)
    }

    private static func judge(_ facts: Facts) -> (State, String?) {
        if let failure = facts.failure { return (.failed, failure) }
        if facts.backends.isEmpty { return (.none, nil) }
        if let failure = facts.backends.lazy.compactMap(\.failure).first { return (.failed, failure) }
        if let problem = facts.backends.lazy.compactMap(\.waitsFor).first { return (.noRoom, problem) }
        if facts.isHeld { return (.held, nil) }
        guard let period = facts.period else { return (.manual, nil) }
        if let new = facts.backends.first(where: { $0.durableStop == nil }) {
            let seconds = CheckpointHealth.seconds(facts.now - facts.promisedSince)
            return (.starting, "No checkpoint is durable in \(new.name) yet, \(seconds) after it was to begin: \(obstacle(new, facts))")
        }
        let late = facts.backends.min { ($0.durableStop ?? 0) < ($1.durableStop ?? 0) }
        if let late, let stop = late.durableStop, facts.now - max(stop, facts.promisedSince) > period + grace {
            return (.late, "The newest durable checkpoint in \(late.name) is \(seconds(facts.now - stop)) old: \(obstacle(late, facts))")
        }
        let promised = nanosecondsPerSecond / Double(period)
        if promised >= 2, facts.now - facts.promisedSince > rateAfter, facts.rate < promised / 2 {
            return (.slow, "\(rounded(facts.rate)) of \(rounded(promised)) checkpoints a second are made: \(obstacle(late, facts))")
        }
        return (.good, nil)
    }

    /// What keeps the next checkpoint.
    private static func obstacle(_ backend: Backend?, _ facts: Facts) -> String {
        guard let backend, let since = backend.busySince, backend.inFlight > 0 || backend.durableStop == nil else { return facts.activity }
        let work = backend.durableStop == nil ? "is taking in the whole group" : "has \(backend.inFlight) under way"
        return "the backend \(work), at its present step for \(seconds(facts.now - since)); \(facts.activity)"
    }

    private static func seconds(_ nanoseconds: Int64) -> String { "\(rounded(Double(nanoseconds) / nanosecondsPerSecond)) s" }

    private static func rounded(_ value: Double) -> String {
        guard value.isFinite, abs(value) < 1e12 else { return "?" }
        let tenths = Int((value * 10).rounded())
        return "\(tenths / 10).\(abs(tenths % 10))"
    }

    /// The state in a few words behind the group's own; nil where there is nothing to say.
    public var note: String? {
        switch state {
        case .none, .manual, .held, .good: nil
        case .starting: "not yet resumable"
        case .slow: "checkpoints slow"
        case .late: "checkpoints late" + (ageMilliseconds.map { " by \(CheckpointHealth.seconds(Int64($0 * 1e6)))" } ?? "")
        case .noRoom: "no room for checkpoints"
        case .failed: "checkpoints failed"
        }
    }
}

/// Decides what of a group's health is told: each change once, at once where data are at risk, and not each quiver.
public struct HealthTeller: Sendable {
    /// What is to be told.
    public struct Message: Sendable, Hashable {
        /// What it says.
        public var text: String
        /// Whether it belongs among the group's warnings; where checkpoints fail or wait for room, others have said so already.
        public var isWarning: Bool
    }

    private var told = CheckpointHealth.State.none
    private var candidate = CheckpointHealth.State.none
    private var candidateSince: Int64 = 0

    /// Nothing was told.
    public init() {}

    /// Nanoseconds that a state must last before it is told.
    private static func patience(_ state: CheckpointHealth.State) -> Int64 {
        switch state {
        case .late, .noRoom, .failed: 0
        case .slow: 3_000_000_000
        case .starting: 2_000_000_000
        case .none, .manual, .held, .good: 1_000_000_000
        }
    }

    /// Takes a look at a time of the monotonic clock, in nanoseconds.
    public mutating func look(_ health: CheckpointHealth, now: Int64) -> Message? {
        if health.state != candidate { (candidate, candidateSince) = (health.state, now) }
        guard health.state != told, now - candidateSince >= HealthTeller.patience(health.state) else { return nil }
        let before = told
        told = health.state
        guard HealthTeller.isBad(told) || HealthTeller.isBad(before) else { return nil }
        let isWarning = [before, told].contains { [.starting, .slow, .late].contains($0) }
        return Message(text: HealthTeller.text(health), isWarning: isWarning)
    }

    private static func isBad(_ state: CheckpointHealth.State) -> Bool {
        switch state {
        case .starting, .slow, .late, .noRoom, .failed: true
        case .none, .manual, .held, .good: false
        }
    }

    private static func text(_ health: CheckpointHealth) -> String {
        let what =
            switch health.state {
            case .none: "The group has no backend any more"
            case .manual: "Checkpoints are made on request alone"
            case .held: "No checkpoints are made for now"
            case .starting: "The group cannot be resumed yet"
            case .good: "Checkpoints go on as promised"
            case .slow: "Checkpoints are slow"
            case .late: "Checkpoints are late"
            case .noRoom: "Checkpoints wait for room"
            case .failed: "Checkpoints failed"
            }
        return health.reason.map { "\(what). \($0)" } ?? what
    }
}
