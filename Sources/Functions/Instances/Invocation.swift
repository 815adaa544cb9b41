/// One request to a function.
public struct Invocation: Sendable {
    /// The request's id, a UUID in lower case (`Lambda-Runtime-Aws-Request-Id`).
    public var requestIdentifier: String
    /// The event: JSON, as it came.
    public var payload: [UInt8]
    /// When the time is over, milliseconds since 1970 (`Lambda-Runtime-Deadline-Ms`).
    public var deadline: Int64
    /// The client's context, JSON, decoded from base64 (`Lambda-Runtime-Client-Context`); nil: none.
    public var clientContext: String?
    /// `Lambda-Runtime-Invoked-Function-Arn`.
    public var functionARN: String
    /// `Lambda-Runtime-Trace-Id`; nil: none.
    public var traceIdentifier: String?
    /// `Lambda-Runtime-Aws-Tenant-Id`; nil: the function has no tenants.
    public var tenant: String?

    /// A request.
    public init(
        requestIdentifier: String, payload: [UInt8], deadline: Int64, clientContext: String? = nil, functionARN: String,
        traceIdentifier: String? = nil, tenant: String? = nil
    ) {
        self.requestIdentifier = requestIdentifier
        self.payload = payload
        self.deadline = deadline
        self.clientContext = clientContext
        self.functionARN = functionARN
        self.traceIdentifier = traceIdentifier
        self.tenant = tenant
    }
}

/// What a function answered.
public struct InvocationResult: Sendable {
    /// The answer, or the error as JSON (`errorMessage`, `errorType`, `stackTrace`).
    public var payload: [UInt8]
    /// Nil, or the kind of the function's error (`X-Amz-Function-Error`: `Unhandled`).
    public var functionError: String?
    /// What the function printed while it served the request: the last bytes, bounded.
    public var log: [UInt8]
    /// Nanoseconds from the hand-over in the guest to the answer.
    public var duration: Int64

    /// An answer.
    public init(payload: [UInt8], functionError: String? = nil, log: [UInt8] = [], duration: Int64 = 0) {
        self.payload = payload
        self.functionError = functionError
        self.log = log
        self.duration = duration
    }
}

/// Why an instance could not be had, or is not usable any more.
public enum InstanceError: Error, Hashable, Sendable, CustomStringConvertible {
    /// No machine could be made or restored: which step, and why.
    case restore(String)
    /// The runtime ended while it served a request: its exit status, and the end of what it printed.
    case exited(status: Int32, log: String)
    /// The deadline passed before the function answered.
    case timedOut(milliseconds: Int)
    /// The answer is longer than allowed: bytes allowed.
    case responseTooLarge(limit: Int)
    /// What the function does after a restore failed: the runtime's words, JSON.
    case restoreHook(String)
    /// The instance's machine or the connection to it broke: why.
    case lost(String)

    /// What failed.
    public var description: String {
        switch self {
        case .restore(let reason): "The function's instance cannot be restored: \(reason)"
        case .exited(let status, _): "The function's runtime exited with status \(status) before it answered."
        case .timedOut(let milliseconds): "The function did not answer within \(milliseconds) ms."
        case .responseTooLarge(let limit): "The function's answer is longer than \(limit) bytes."
        case .restoreHook(let reason): "The afterRestore() runtime hook encountered an error: \(reason)"
        case .lost(let reason): "The function's instance was lost: \(reason)"
        }
    }
}
