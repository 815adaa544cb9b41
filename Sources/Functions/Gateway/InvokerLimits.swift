/// How many instances run, and how long they are kept.
public struct InvokerLimits: Sendable {
    /// Requests served at once, over all functions.
    public var concurrencyMax = 256
    /// Instances alive at once, idle ones included.
    public var instancesMax = 1024
    /// Instances restored at the same time: more would only slow each other down.
    public var startsMax = 8
    /// Requests of one function that wait for an instance.
    public var waitersMax = 1000
    /// Milliseconds a request waits for an instance before it is refused (429).
    public var waitMilliseconds = 10_000
    /// Seconds an idle instance is kept.
    public var idleSeconds = 300
    /// Bytes of memory the host must have left; idle instances are ended when it has less.
    public var memoryAvailableMin = 512 << 20
    /// Milliseconds after a request's deadline at which an instance that says nothing is given up.
    public var graceMilliseconds = 1000

    /// The limits of the documentation.
    public init() {}
}

/// Why a request was not served by any instance.
enum InvokerError: Error, Hashable, Sendable {
    /// The function, or the gateway, serves as many requests as it may.
    case throttled(String)
    /// No instance could be restored, nor at the second try of its source.
    case unavailable(InstanceError)
    /// The gateway ends.
    case draining
    /// The client has gone while the request waited.
    case cancelled
}

/// How a request was served.
struct Served: Sendable {
    /// What the function answered, or how its instance failed.
    var outcome: Result<InvocationResult, InstanceError>
    /// Where the instance came from.
    var start: StartKind
    /// Nanoseconds waited for an instance that others used, or for room for one.
    var waited: Int64
    /// Nanoseconds the restore took; zero for an instance that was there.
    var restored: Int64
    /// Nanoseconds from the hand-over to the answer, as the gateway saw it.
    var served: Int64
    /// Private memory of the instance afterwards; nil: not known.
    var privateBytes: Int?
    /// What the function printed without an answer to go with.
    var log: [UInt8] = []
}
