/// How often checkpoints are made.
public enum CheckpointPeriod: Hashable, Sendable {
    /// Every so many nanoseconds.
    case fixed(nanoseconds: Int64)
    /// So that the guest stands still for this share of the time at most, within limits in nanoseconds.
    case adaptive(share: Double, least: Int64, most: Int64)

    /// A hundred a second.
    public static let standard = CheckpointPeriod.fixed(nanoseconds: 10_000_000)
    /// The shortest that is accepted, in nanoseconds.
    public static let nanosecondsMin: Int64 = 1_000_000

    /// Nanoseconds to the next stop after one that took `stop`.
    func next(after stop: Int64) -> Int64 {
        switch self {
        case .fixed(let nanoseconds): max(CheckpointPeriod.nanosecondsMin, nanoseconds)
        case .adaptive(let share, let least, let most):
            max(CheckpointPeriod.nanosecondsMin, least, min(most, share > 0 ? Int64(min(1e18, Double(stop) / share)) : most))
        }
    }
}

/// What a pipeline needs to know beside its machine.
public struct PipelineConfiguration: Sendable {
    /// How often checkpoints are made.
    public var period = CheckpointPeriod.standard
    /// Bytes of buffers for all epochs that are not at their backends yet.
    public var poolBytes = PagePool.bytesDefault
    /// Epochs of one backend that may be closed and not durable.
    public var epochsInFlightMax = 4
    /// What becomes of the group when a backend fails.
    public var failurePolicy = BackendFailurePolicy.pauseGroup
    /// The last epoch of the history the group goes on from.
    public var lastEpoch = EpochNumber(0)
    /// What belongs to every checkpoint beside memory.
    public var participants: [any EpochParticipant] = []
    /// Called, on any thread, when something happens that somebody should know.
    public var report: @Sendable (PipelineEvent) -> Void = { _ in }
    /// What runs its activities, and its clocks.
    package var scheduler: any PipelineScheduler = ThreadScheduler()
    /// For tests: the least of `poolBytes`.
    package var poolBytesMin = PagePool.bytesMin
    /// How long a backend that goes, or a pipeline that ends, is waited for if nothing else is said, in seconds.
    public static let partingSeconds = 60.0
    /// For tests: called in the stop window when everything is copied.
    package var inspectStop: (@Sendable (EpochNumber) -> Void)?

    /// The usual ones.
    public init() {}
}

/// What a pipeline reports.
public enum PipelineEvent: Sendable {
    /// An epoch is durable at a backend.
    case durable(EpochNumber, backend: String)
    /// A backend failed and is not used any more; whether the guest stands still because of it.
    case backendFailed(BackendError, guestIsPaused: Bool)
    /// No more checkpoints are made; the guest stands still, unless it has ended.
    case failed(PipelineError)
}
