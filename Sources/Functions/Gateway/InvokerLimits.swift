internal import CLinux

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
    /// Bytes of memory that live instances may have been promised together.
    ///
    /// More than the host has, since instances share most of it: what they touch is watched by `memoryAvailableMin`.
    public var memoryPromisedMax = HostRoom.memoryPromisedDefault
    /// Bytes that the disk with instances' scratch files must have left for another one.
    public var diskAvailableMin = 512 << 20
    /// What the host has left.
    var room = HostRoom()
    /// Milliseconds after a request's deadline at which an instance that says nothing is given up.
    public var graceMilliseconds = 1000

    /// The limits of the documentation.
    public init() {}
}

/// What the host has left for instances.
struct HostRoom: Sendable {
    /// How often the host's memory may be promised.
    static let overcommit = 8
    /// So much of the host's own, in bytes.
    static var memoryPromisedDefault: Int {
        let bytes = clinux_memory_bytes()
        return bytes > 0 ? bytes * overcommit : .max
    }

    /// Bytes of memory, nil when it cannot be told.
    var memory: @Sendable () -> Int? = { HostMemory.availableBytes }
    /// Bytes of the disk of scratch files, nil when it cannot be told.
    var disk: @Sendable () -> Int? = { nil }

    /// Bytes that the file system of a path has left.
    static func disk(of path: String) -> Int? {
        let bytes = clinux_free_bytes(path)
        return bytes < 0 ? nil : bytes
    }

    /// Why an instance of a function cannot be started now; nil: it can be.
    func refusal(_ function: DeployedFunction, _ limits: InvokerLimits) -> String? {
        // All that it may use has to be there when it begins, beyond what the host needs itself.
        if let memory = memory(), memory - limits.memoryAvailableMin < function.memoryBytes {
            return "the host has \(memory >> 20) MiB of memory left, too little for \(function.memoryBytes >> 20) MiB more"
        }
        if let disk = disk(), disk < limits.diskAvailableMin {
            return "the disk of the gateway's data has \(disk >> 20) MiB left, instances need \(limits.diskAvailableMin >> 20) MiB"
        }
        return nil
    }
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
    /// The most memory that the function has had in this instance, bytes; nil: not known.
    var memoryPeakBytes: Int?
    /// What the function printed without an answer to go with.
    var log: [UInt8] = []
}
