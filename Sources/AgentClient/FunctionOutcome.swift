public import AgentProtocol

/// A whole answer of a function's runtime.
public struct FunctionOutcome: Equatable, Sendable {
    /// What kind of answer it is, for which request.
    public var answer: FunctionAnswer
    /// The answer, or the error as JSON.
    public var payload: [UInt8]
    /// Whether the answer is whole, and how long it took.
    public var end: FunctionEnd
    /// The end of what the runtime wrote meanwhile.
    public var log: [UInt8]

    /// An answer.
    public init(answer: FunctionAnswer, payload: [UInt8] = [], end: FunctionEnd, log: [UInt8] = []) {
        self.answer = answer
        self.payload = payload
        self.end = end
        self.log = log
    }
}

/// Why a function's runtime did not do what was asked.
public enum FunctionError: Error, Equatable, Sendable {
    /// The runtime said so: an error of its initialization or of a hook after the restore, with the runtime's own words.
    case runtime(FunctionOutcome)
    /// The runtime ended: how, and the end of what it wrote.
    case exited(ExitStatus, log: [UInt8])
    /// The time was over; the end of what the runtime wrote.
    case timedOut(log: [UInt8])
    /// The agent or the connection to it failed.
    case agent(AgentError)
}

extension FunctionError: CustomStringConvertible {
    /// The error in words for a user.
    public var description: String {
        switch self {
        case .runtime(let outcome):
            let step = outcome.answer.kind == .restoreError ? "go on after its restore" : "be initialized"
            return "The function cannot \(step): \(String(decoding: outcome.payload.prefix(4_096), as: UTF8.self))"
        case .exited(let status, _):
            return status.kind == .code
                ? "The function's runtime exited with code \(status.value)."
                : "The function's runtime was killed by signal \(status.value)."
        case .timedOut: return "The function did not get ready or answer in time."
        case .agent(let error): return error.description
        }
    }
}

/// The end of what a runtime wrote: bounded, whatever it writes.
public struct FunctionLog: Sendable {
    /// Bytes of a log's end that Lambda gives to a client that asks for it.
    public static let tailBytes = 4_096

    private let bytesMax: Int
    private var kept: [UInt8] = []
    /// All bytes written, kept or not.
    public private(set) var totalBytes: UInt64 = 0

    /// Keeps the last `bytesMax` bytes.
    public init(bytesMax: Int = 65_536) { self.bytesMax = max(0, bytesMax) }

    /// The last bytes.
    public var bytes: [UInt8] { [UInt8](kept.suffix(bytesMax)) }

    /// Adds what was written.
    public mutating func append(_ bytes: [UInt8]) {
        totalBytes &+= UInt64(bytes.count)
        kept.append(contentsOf: bytes)
        // Twice the room, so that moving the rest costs little on average.
        if kept.count > 2 * bytesMax { kept.removeFirst(kept.count - bytesMax) }
    }

    /// Gives the last bytes and starts anew.
    public mutating func take() -> [UInt8] {
        defer {
            kept = []
            totalBytes = 0
        }
        return bytes
    }
}

/// Joins messages to whole answers; does no input or output itself.
public struct FunctionAnswerCollector: Sendable {
    private var answer: FunctionAnswer?
    private var payload: [UInt8] = []
    /// What the runtime wrote since the last answer.
    public private(set) var log: FunctionLog
    /// The most bytes of memory that the runtime has had, as told last; nil: it was not.
    public private(set) var memoryPeakBytes: Int?

    /// Keeps the last `logBytesMax` bytes of what the runtime writes.
    public init(logBytesMax: Int = 65_536) { log = FunctionLog(bytesMax: logBytesMax) }

    /// Gives what the runtime wrote, and starts anew.
    public mutating func takeLog() -> [UInt8] { log.take() }

    /// Adds a message; returns the answer when this was its end.
    public mutating func add(_ message: FunctionMessage) -> FunctionOutcome? {
        switch message {
        case .log(let bytes): log.append(bytes)
        case .answer(let begun):
            answer = begun
            payload = []
        case .body(let bytes): payload.append(contentsOf: bytes)
        case .end(let end):
            guard let whole = answer else { return nil }
            defer {
                answer = nil
                payload = []
            }
            return FunctionOutcome(answer: whole, payload: payload, end: end, log: log.take())
        case .memory(let memory): memoryPeakBytes = Int(clamping: memory.peakBytes)
        case .state, .exited, .failed: break
        }
        return nil
    }
}
