/// One running copy of a function.
///
/// It is a micro-VM restored from the function's snapshot, and serves one request at a time.
public protocol FunctionInstance: AnyObject, Sendable {
    /// Names the instance in logs and metrics.
    var identifier: String { get }
    /// Memory of its own in bytes, as the kernel counts it now; nil when it cannot be told.
    ///
    /// Asked after every request.
    var privateBytes: Int? { get }
    /// The most memory that its function has had at once, bytes, as its guest's kernel counted; nil when it was not told.
    ///
    /// What the snapshot brought counts, and what has ended meanwhile.
    var memoryPeakBytes: Int? { get }
    /// How its machine was had: `.pooled` or `.restored`, or `.cold`.
    var startKind: StartKind { get }
    /// Whether it may be handed a request, as far as can be told without asking it; false once its machine is gone.
    var isUsable: Bool { get }

    /// Serves one request.
    ///
    /// - Throws: `InstanceError`: the instance is not usable any more, and has been or has to be ended.
    func invoke(_ invocation: Invocation) async throws(InstanceError) -> InvocationResult

    /// What the function printed since its last answer: the last bytes, bounded; asked for when there is no answer.
    func takeLog() -> [UInt8]

    /// Ends the machine and everything it holds; idempotent; returns when nothing is left.
    func end() async
}

extension FunctionInstance {
    /// Restored in a machine made on the spot, unless an instance says otherwise.
    public var startKind: StartKind { .restored }
    /// Not known, unless an instance is told.
    public var memoryPeakBytes: Int? { nil }
    /// Usable, unless an instance knows better.
    public var isUsable: Bool { true }
    /// Nothing, unless an instance knows more.
    public func takeLog() -> [UInt8] { [] }
}

/// Where instances come from: the pool of machines, or a pretended one in tests.
public protocol InstanceSource: Sendable {
    /// Restores an instance of a deployed function.
    ///
    /// Tries a restore that fails once more by itself, if that is worth it; its caller does not.
    ///
    /// - Throws: `InstanceError` when it cannot be: the machines it was tried in are thrown away.
    func start(_ function: DeployedFunction) async throws(InstanceError) -> any FunctionInstance

    /// Makes ahead what the first request of a function would wait for otherwise.
    ///
    /// - Throws: `InstanceError.restore`; the function can be started all the same, or says why not when it is.
    func prepare(_ function: DeployedFunction) async throws(InstanceError)

    /// Removes what was made ahead for functions that are not there any more.
    ///
    /// - Parameter functions: those that are there, asked for when it has been noted what was made: what comes meanwhile is not touched.
    /// - Throws: `InstanceError.restore` when it cannot be told what is of use; nothing was removed then.
    func tidy(keeping functions: @escaping @Sendable () -> [DeployedFunction]) async throws(InstanceError)

    /// How full the cache is of what instances are launched from; nil: there is none.
    var launchCache: LaunchCacheReport? { get }

    /// Bytes that a function has of its own in that cache; nil: nothing, or not known.
    func launchBytes(of function: DeployedFunction) -> Int?
}

extension InstanceSource {
    /// Nothing to make ahead.
    public func prepare(_ function: DeployedFunction) async throws(InstanceError) {}
    /// There is no cache.
    public var launchCache: LaunchCacheReport? { nil }
    /// Nothing is in it.
    public func launchBytes(of function: DeployedFunction) -> Int? { nil }
    /// Nothing was made ahead.
    public func tidy(keeping functions: @escaping @Sendable () -> [DeployedFunction]) async throws(InstanceError) {}
}

/// How an instance came to serve a request.
public enum StartKind: String, Sendable, CaseIterable {
    /// A kernel was booted and the function initialized.
    case cold
    /// Restored in a machine made on the spot.
    case restored
    /// Restored in a machine of the pool.
    case pooled
    /// An idle instance was there.
    case reused
}
