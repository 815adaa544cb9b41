internal import Synchronization

/// What the gateway counts.
final class GatewayMetrics: Sendable {
    /// How a request to a function ended.
    enum Outcome: String, CaseIterable, Sendable {
        case success, functionError = "function_error", timeout, exit, lost, tooLarge = "too_large", unavailable, throttled
    }

    /// What is counted for one function.
    struct Function: Sendable {
        var outcomes: [Outcome: UInt64] = [:]
        /// Times from the request to the answer, by where the instance came from.
        var latencies: [StartKind: LatencyHistogram] = [:]
        /// Times of restores.
        var restores = LatencyHistogram()
        var privateBytes: Int?
        /// The most memory that any instance's function has had.
        var memoryPeakBytes: Int?
        var lastInvokedAt: Int64 = 0
    }

    /// All counts.
    struct State: Sendable {
        var functions: [String: Function] = [:]
        var answers: [Int: UInt64] = [:]
        var eventsDelivered: UInt64 = 0
        var eventAttemptsFailed: UInt64 = 0
        var eventsDead: UInt64 = 0
        var eventsHandedOn: UInt64 = 0
        var eventsAccepted: UInt64 = 0
        var eventsRefused: UInt64 = 0
    }

    private let state = Mutex(State())

    /// A copy of all counts.
    var snapshot: State { state.withLock { $0 } }

    /// Notes how a request was served.
    func note(_ name: String, _ outcome: Outcome, _ served: Served? = nil) {
        state.withLock { state in
            state.functions[name, default: Function()].outcomes[outcome, default: 0] += 1
            guard let served else { return }
            let total = served.waited + served.restored + served.served
            state.functions[name]?.latencies[served.start, default: LatencyHistogram()].add(nanoseconds: total)
            if served.start != .reused { state.functions[name]?.restores.add(nanoseconds: served.restored) }
            if let bytes = served.privateBytes { state.functions[name]?.privateBytes = bytes }
            let peak = state.functions[name]?.memoryPeakBytes ?? 0
            if let bytes = served.memoryPeakBytes { state.functions[name]?.memoryPeakBytes = max(bytes, peak) }
            state.functions[name]?.lastInvokedAt = WallClock.milliseconds
        }
    }

    /// Notes an answer's status.
    func noteAnswer(_ status: Int) { state.withLock { $0.answers[status, default: 0] += 1 } }

    /// Changes the counts of events.
    func noteEvent(_ change: (inout State) -> Void) { state.withLock { change(&$0) } }

    /// Forgets a function that was removed.
    func forget(_ name: String) { state.withLock { $0.functions[name] = nil } }
}
