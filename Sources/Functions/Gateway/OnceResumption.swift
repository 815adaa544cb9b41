internal import CLinux
internal import Synchronization

/// Resumes a waiting task with the first value it gets; later ones are dropped.
final class OnceResumption<Value: Sendable>: Sendable {
    private let continuation: Mutex<CheckedContinuation<Value, Never>?>

    init(_ continuation: CheckedContinuation<Value, Never>) { self.continuation = Mutex(continuation) }

    func callAsFunction(_ value: Value) {
        let taken = continuation.withLock { continuation in
            defer { continuation = nil }
            return continuation
        }
        taken?.resume(returning: value)
    }
}

/// Instances that are being ended, so that the gateway can wait for the last.
final class EndTasks: Sendable {
    private struct State {
        var running = 0
        var waiters: [CheckedContinuation<Void, Never>] = []
    }
    private let state = Mutex(State())

    func end(_ instances: [any FunctionInstance]) { for instance in instances { end(instance) } }

    func end(_ instance: any FunctionInstance) {
        state.withLock { $0.running += 1 }
        Task {
            await instance.end()
            let waiters = state.withLock { state in
                state.running -= 1
                guard state.running == 0 else { return [CheckedContinuation<Void, Never>]() }
                defer { state.waiters = [] }
                return state.waiters
            }
            for waiter in waiters { waiter.resume() }
        }
    }

    /// Returns when no instance is being ended.
    func wait() async {
        await withCheckedContinuation { continuation in
            let isDone = state.withLock { state in
                if state.running == 0 { return true }
                state.waiters.append(continuation)
                return false
            }
            if isDone { continuation.resume() }
        }
    }
}

/// A clock that does not jump.
enum MonotonicClock {
    /// Nanoseconds since some point.
    static var nanoseconds: Int64 { clinux_clock_ns(CLOCK_MONOTONIC) }
}

extension ContinuousClock.Instant {
    /// Nanoseconds from this time to another.
    func nanoseconds(to later: ContinuousClock.Instant) -> Int64 {
        let (seconds, attoseconds) = (later - self).components
        return seconds * 1_000_000_000 + attoseconds / 1_000_000_000
    }
}
