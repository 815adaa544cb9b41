/// Whether a function can be invoked, in Lambda's words.
public enum FunctionState: String, Sendable, Codable, CaseIterable {
    /// It is built for the first time.
    case pending = "Pending"
    /// It can be invoked.
    case active = "Active"
    /// It was never built.
    case failed = "Failed"
}

/// What became of the last change of a function, in Lambda's words.
public enum UpdateStatus: String, Sendable, Codable, CaseIterable {
    /// The change is in effect.
    case successful = "Successful"
    /// The function is built anew; the one before serves meanwhile.
    case inProgress = "InProgress"
    /// The change could not be built; the one before still serves.
    case failed = "Failed"
}

/// What a client sets of a function, apart from its code.
public struct FunctionSettings: Sendable, Hashable, Codable {
    /// `python3…` or `provided…`.
    public var runtime: String
    /// `module.function`.
    public var handler: String
    /// The role a client names; kept, and of no effect.
    public var role: String
    /// What the function is for.
    public var summary: String
    /// Environment of the runtime.
    public var environment: [String: String]
    /// Memory, MiB.
    public var memoryMiB: Int
    /// The longest a request may take, seconds.
    public var timeoutSeconds: Int
    /// The image; empty: that of the runtime.
    public var image: String
    /// Whether the snapshot is taken at `restore/next`.
    public var isSnapStart: Bool
    /// Requests at once, at most; nil: as many as the gateway takes.
    public var concurrencyMax: Int?
    /// Labels of the client's.
    public var tags: [String: String]?
    /// How it logs; nil: as usual.
    public var logging: LoggingSettings?
    /// Room for what it writes to its disk, MiB; nil: `scratchMiBDefault`.
    public var scratchMiB: Int?
    /// Whether each tenant has instances of its own.
    public var isolatesTenants: Bool?
    /// Whether its processes are kept apart from their kernel in a pv guest; nil: as the image says.
    public var isStrict: Bool?

    /// Who it runs as in its guest, `user[:group]`; nil: `FunctionPlan.userDefault`.
    public var user: String?
    /// The function that is given what this one's asynchronous requests failed with; nil: they stay dead letters.
    public var deadLetter: String?

    /// Lambda's size of `/tmp` unless something else is said.
    public static let scratchMiBDefault = 512

    /// Settings; the defaults are Lambda's.
    public init(
        runtime: String, handler: String = "", role: String = "", summary: String = "", environment: [String: String] = [:],
        memoryMiB: Int = 128, timeoutSeconds: Int = 3, image: String = "", isSnapStart: Bool = true, concurrencyMax: Int? = nil
    ) {
        self.runtime = runtime
        self.handler = handler
        self.role = role
        self.summary = summary
        self.environment = environment
        self.memoryMiB = memoryMiB
        self.timeoutSeconds = timeoutSeconds
        self.image = image
        self.isSnapStart = isSnapStart
        self.concurrencyMax = concurrencyMax
    }
}

/// What serves while a change is built, and what a function goes back to when that fails.
public struct FunctionBefore: Sendable, Hashable, Codable {
    /// What was set.
    public var settings: FunctionSettings
    /// The code's digest.
    public var codeDigest: String
    /// The code's file.
    public var codeFile: String
    /// Bytes of the code's archive.
    public var codeBytes: Int
}

/// Everything the catalogue keeps of a function.
public struct FunctionRecord: Sendable, Hashable, Codable {
    /// The version of this form.
    public static let currentVersion = 1

    /// The form's version.
    public var version = FunctionRecord.currentVersion
    /// The function's name.
    public var name: String
    /// What was set.
    public var settings: FunctionSettings
    /// SHA-256 of the code's archive, base64.
    public var codeDigest: String
    /// The archive's file in the function's directory.
    public var codeFile: String
    /// Bytes of the archive.
    public var codeBytes: Int
    /// Changes with every change (`RevisionId`).
    public var revision: String
    /// When code or settings changed last (ISO 8601 with milliseconds, UTC).
    public var modifiedAt: String
    /// Whether it can be invoked.
    public var state: FunctionState
    /// What became of the last change.
    public var updateStatus: UpdateStatus
    /// Why the state or the last change is what it is; nil: nothing to say.
    public var reason: String?
    /// What serves requests now; nil: nothing was built yet.
    public var deployed: DeployedFunction?
    /// Bytes the store grew by at the last build; nil: not known.
    public var storeBytes: Int?

    /// What it was before the change that is being built; nil: nothing is, or there was none.
    public var before: FunctionBefore?
    /// Whether the last change failed in the function's own initialization, which the next request may try again.
    public var hasFailedInit: Bool?

    /// Whether nothing serves because the function's own initialization failed: whatever is asked of it tries that again.
    var mayRetryInit: Bool { deployed == nil && hasFailedInit == true }

    /// The function's resource name.
    public var resourceName: String { FunctionName.resourceName(name) }
}
