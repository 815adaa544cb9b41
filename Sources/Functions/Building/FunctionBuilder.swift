/// What a function is made from.
public struct FunctionPlan: Hashable, Sendable, Codable {
    /// The function; an empty `image` stands for the one of its runtime, and the builder fills it in.
    public var function: DeployedFunction
    /// `python3` (the stock `awslambdaric` serves `handler`) or `provided` (the program `bootstrap` of the code).
    public var runtime: String
    /// `module.function` for `python3`; passed on as `_HANDLER` to every runtime.
    public var handler: String
    /// The code: the path of a ZIP archive (`ZipArchive`).
    public var codePath: String
    /// The deployment's environment.
    public var environment: [String: String]
    /// Variables that a deployment's environment does not change; nil: those that every runtime has.
    public var reserved: [String: String]?
    /// Who its processes run as in the guest, `user[:group]` by name or number; nil: `userDefault`.
    public var user: String?
    /// Whether the snapshot is taken at `restore/next`, after the runtime's hooks, instead of at the first `invocation/next`.
    public var isSnapStart: Bool
    /// The longest the initialization may take, seconds (Lambda: 10, and up to 130 with snapshots).
    public var initializationSeconds: Int

    /// The user that Lambda has functions run as.
    public static let userDefault = "sbx_user1051"

    /// A plan.
    public init(
        function: DeployedFunction, runtime: String, handler: String, codePath: String, environment: [String: String] = [:],
        isSnapStart: Bool = true, initializationSeconds: Int = 60
    ) {
        self.function = function
        self.runtime = runtime
        self.handler = handler
        self.codePath = codePath
        self.environment = environment
        self.isSnapStart = isSnapStart
        self.initializationSeconds = initializationSeconds
    }
}

/// A function whose snapshot is in the store.
public struct BuiltFunction: Hashable, Sendable, Codable {
    /// The function, its image filled in.
    public var function: DeployedFunction
    /// The stream of its snapshot in the store.
    public var stream: String
    /// The stream of the runtime snapshot it shares its pages with.
    public var runtimeStream: String
    /// Bytes the store grew by.
    public var storeBytes: Int
    /// What the runtime wrote while it was initialized: the last bytes.
    public var log: [UInt8]

    /// A built function.
    public init(function: DeployedFunction, stream: String, runtimeStream: String, storeBytes: Int, log: [UInt8]) {
        self.function = function
        self.stream = stream
        self.runtimeStream = runtimeStream
        self.storeBytes = storeBytes
        self.log = log
    }
}

/// How far a build is.
public enum BuildStep: Hashable, Sendable, Codable {
    /// The runtime's image is made.
    case image(String)
    /// What its recipe does now, in its words.
    case recipe(String)
    /// Bytes that the recipe has written so far.
    case written(Int)
    /// The runtime is booted and its snapshot taken: once for each image and memory size.
    case runtime(String)
    /// The code is unpacked in a clone of the runtime.
    case code
    /// The function's runtime process is initialized.
    case initialization
    /// The function's snapshot is written.
    case snapshot

    /// The step in words for whoever waits; nil: the step before goes on.
    public var words: String? {
        switch self {
        case .image(let name): "making the image \(name)"
        case .recipe(let step): step
        case .written: nil
        case .runtime: "booting the runtime"
        case .code: "unpacking the code"
        case .initialization: "initializing the function"
        case .snapshot: "writing its snapshot"
        }
    }
}

/// Why a function could not be built.
public enum FunctionBuildError: Error, Hashable, Sendable, Codable, CustomStringConvertible {
    /// The plan makes no sense: what, and what would.
    case invalidPlan(String)
    /// The archive is refused: which entry or limit, and why.
    case badCode(String)
    /// The runtime's image or snapshot could not be made.
    case runtime(String)
    /// The function failed while it was initialized: the runtime's own words (JSON, or a sentence), and what it wrote.
    case initialization(message: String, log: [UInt8])
    /// The store could not take the snapshot.
    case store(String)
    /// The machine or the connection to it broke.
    case machine(String)

    /// What failed.
    public var description: String {
        switch self {
        case .invalidPlan(let reason): "Cannot build the function: \(reason)"
        case .badCode(let reason): "Cannot use the function's code: \(reason)"
        case .runtime(let reason): "Cannot make the function's runtime: \(reason)"
        case .initialization(let message, _): "The function failed while it was initialized: \(message)"
        case .store(let reason): "Cannot keep the function's snapshot: \(reason)"
        case .machine(let reason): "The machine that builds the function failed: \(reason)"
        }
    }
}

/// Makes snapshots of functions.
public protocol FunctionBuilder: Sendable {
    /// Makes the function's snapshot, replacing the one of an earlier revision only when it is complete.
    ///
    /// - Throws: `FunctionBuildError`; the store is then as it was, but for the runtime's snapshot.
    func build(
        _ plan: FunctionPlan, progress: @escaping @Sendable (BuildStep) -> Void
    ) async throws(FunctionBuildError) -> BuiltFunction

    /// Removes the function's snapshot; none is fine.
    ///
    /// - Throws: `FunctionBuildError.store`.
    func remove(_ function: String) async throws(FunctionBuildError)
}
