/// What a pipeline's thread is at, for whoever asks why nothing comes.
public enum PipelineActivity: Hashable, Sendable, CustomStringConvertible {
    /// Nothing is to be done, or not yet.
    case rests
    /// A backend has as many epochs under way as it may.
    case waitsForBackend
    /// All buffers are on their way to backends.
    case waitsForBuffers
    /// Pages are copied while the guest runs.
    case copies
    /// The guest is stopped.
    case stops
    /// What changed on a volume is read out: its map.
    case reads(Int)
    /// It makes no more checkpoints.
    case hasEnded

    /// What it does, in a few words.
    public var description: String {
        switch self {
        case .rests: "the next checkpoint is not due yet"
        case .waitsForBackend: "the next checkpoint waits until an earlier one is durable"
        case .waitsForBuffers: "the next checkpoint waits for buffers, which are all on their way to the backends"
        case .copies: "pages are being copied"
        case .stops: "the guest is being stopped"
        case .reads(let map): "what changed on disk \(map) is being read"
        case .hasEnded: "no more checkpoints are made"
        }
    }
}

/// What a backend's thread is at, for whoever waits for it in vain.
public enum BackendStep: Hashable, Sendable, CustomStringConvertible {
    /// It waits for work.
    case rests
    /// It hands over pages ahead of their epoch.
    case stages
    /// It hands over an epoch.
    case writes(EpochNumber)
    /// It has what was written made durable.
    case flushes
    /// It hands over the contents of the whole group.
    case scans

    /// What it does, as the end of a sentence.
    public var description: String {
        switch self {
        case .rests: "it waited for work"
        case .stages: "it was taking in pages"
        case .writes(let number): "it was writing checkpoint \(number.rawValue)"
        case .flushes: "it was making checkpoints durable"
        case .scans: "it was taking in the whole group"
        }
    }
}

/// How a pipeline stands now; all times are nanoseconds of the host's monotonic clock.
public struct PipelineProgress: Hashable, Sendable {
    /// The time of the look.
    public let now: Int64
    /// Nanoseconds from one checkpoint to the next; nil: they are made on request alone.
    public let period: Int64?
    /// Since when they are to be made so.
    public let promisedSince: Int64
    /// What the thread is at.
    public let activity: PipelineActivity
    /// Since when.
    public let activitySince: Int64
    /// Why no more checkpoints are made; nil while they are.
    public let failure: PipelineError?
}
