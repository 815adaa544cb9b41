/// Checkpoints of a running machine; the seam between groups on one side and pipeline and store on the other.
///
/// Calls come from any thread, several at once; each may wait for a disk.
public protocol GroupPersistence: Sendable {
    /// Begins to checkpoint: the program runs, or runs again.
    func begin() throws
    /// Takes a checkpoint now and waits until it is durable, not longer than some seconds.
    func checkpoint(name: String?, within seconds: Double) throws -> CheckpointReceipt
    /// How it goes.
    func report() -> PersistenceReport
    /// Adds a place for checkpoints; its first one there is a full one.
    func attach(_ backend: BackendKind) throws
    /// Takes a place away; what is durable there stays.
    ///
    /// - Parameter seconds: how long what is on its way there is waited for; the place is taken away then all the same.
    func detach(_ backend: BackendKind, within seconds: Double) throws
    /// Changes how often.
    func setPeriod(_ period: PersistencePeriod) throws
    /// Takes a last checkpoint where that outlives the machine, and none by the clock after it: the program is about to be asked to end.
    func takeLast() throws
    /// Puts the machine back in place to a checkpoint of its own, lastingly: what goes on after a crash has been put back, too.
    ///
    /// - Parameter atStandstill: called before the guest goes on, also where it goes on as it was after all: nothing of its connections
    ///   to the outside may go on with it.
    /// - Throws: then the guest goes on as it was, or the machine ends.
    func rollback(to selector: CheckpointChoice, atStandstill: () -> Void) throws -> GroupContext
}

extension GroupPersistence {
    /// Takes a checkpoint now and waits until it is durable, not longer than is usual.
    public func checkpoint(name: String?) throws -> CheckpointReceipt {
        try checkpoint(name: name, within: CheckpointReceipt.secondsDefault)
    }
}

/// A checkpoint that is durable.
public struct CheckpointReceipt: Codable, Sendable, Hashable {
    /// How long is waited for one if nothing else is said: a first, full checkpoint writes all of the memory.
    public static let secondsDefault = 60.0
    /// How long can be waited for one.
    public static let secondsRange = 0.1...86_400.0

    /// Its number in the group's history.
    public var number: UInt64
    /// Its name.
    public var name: String?
    /// How long the group stood still, in microseconds.
    public var stopMicroseconds: Double

    /// Describes a checkpoint.
    public init(number: UInt64, name: String? = nil, stopMicroseconds: Double) {
        self.number = number
        self.name = name
        self.stopMicroseconds = stopMicroseconds
    }
}

/// What `GET /v1/persistence` answers.
public struct PersistenceReport: Codable, Sendable, Hashable {
    /// One place for checkpoints.
    public struct Backend: Codable, Sendable, Hashable {
        /// Which.
        public var kind: BackendKind
        /// The newest checkpoint that is durable there.
        public var durableNumber: UInt64?
        /// Why it takes none any more.
        public var error: String?
        /// What its next checkpoint waits for, while the group runs on; nil when it does not wait.
        public var waitsFor: String?

        /// Describes a place.
        public init(kind: BackendKind, durableNumber: UInt64? = nil, error: String? = nil, waitsFor: String? = nil) {
            self.kind = kind
            self.durableNumber = durableNumber
            self.error = error
            self.waitsFor = waitsFor
        }
    }
    /// Stop times of the recent checkpoints in microseconds.
    public struct Stops: Codable, Sendable, Hashable {
        /// Half of them are shorter.
        public var median: Double
        /// One in a hundred is longer.
        public var p99: Double
        /// The longest.
        public var max: Double

        /// Describes stop times.
        public init(median: Double, p99: Double, max: Double) {
            self.median = median
            self.p99 = p99
            self.max = max
        }
    }

    /// Where checkpoints go; empty for a group that is not persisted.
    public var backends: [Backend]
    /// Whether they are made as promised.
    public var health: CheckpointHealth
    /// How often they are wanted.
    public var period: PersistencePeriod
    /// Checkpoints a second, of the last second or the last few periods.
    public var rate: Double
    /// The newest checkpoint.
    public var latestNumber: UInt64?
    /// Checkpoints since the VMM process began.
    public var count: Int
    /// How long the group stands still for one.
    public var stops: Stops?
    /// Pages written by the guest a second of late.
    public var dirtyPagesPerSecond: Double
    /// Milliseconds since the moment that would be resumed if the power failed now.
    public var durabilityLagMilliseconds: Double?
    /// Bytes that the group's history has added to the store since the VMM process began.
    public var storedBytes: Int?
    /// Bytes the same pages would have taken without sharing and leaving out zeros.
    public var logicalBytes: Int?

    /// Nothing is persisted.
    public init() {
        backends = []
        health = CheckpointHealth(CheckpointHealth.Facts(now: 0, period: nil, promisedSince: 0, backends: []))
        period = .manual
        rate = 0
        count = 0
        dirtyPagesPerSecond = 0
    }

    /// Whether the group could go on after a crash.
    public var isResumable: Bool { backends.contains { $0.kind == .store && $0.durableNumber != nil } }

    /// What a list says of it behind the group's state; nil where there is nothing to say.
    public var note: String? {
        let isPending = backends.contains { $0.kind == .store } && !isResumable
        return isPending && [.manual, .held, .good].contains(health.state) ? "not yet resumable" : health.note
    }

    /// How many times smaller the store is than what went into it.
    public var deduplication: Double? {
        guard let storedBytes, let logicalBytes, storedBytes > 0 else { return nil }
        return Double(logicalBytes) / Double(storedBytes)
    }
}

/// The host's side of a group, kept in each checkpoint beside the machine's state: with it alone the group can be resumed.
public struct GroupContext: Codable, Sendable, Hashable {
    /// The version this source writes, and the newest it reads.
    public static let currentVersion = 1

    /// The version.
    public var version = GroupContext.currentVersion
    /// What the user asked for.
    public var configuration: GroupConfiguration
    /// The session of the program in the guest.
    public var session: Int32
    /// Whether the machine has a network device.
    public var hasNetwork: Bool
    /// The guest kernel's release.
    public var kernelRelease: String?
    /// Bytes of the program's output that had arrived.
    public var outputBytes: UInt64 = 0
    /// Bytes of each disk, in order.
    public var diskBytes: [Int] = []

    /// Describes a group.
    public init(configuration: GroupConfiguration, session: Int32, hasNetwork: Bool) {
        self.configuration = configuration
        self.session = session
        self.hasNetwork = hasNetwork
    }
}
