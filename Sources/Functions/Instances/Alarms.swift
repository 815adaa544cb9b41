internal import CLinux
internal import Synchronization

/// Calls closures when their time has come, unless they were called off: one sleeping task for all of them.
///
/// A task that sleeps for each would not do: one that is cancelled stays in memory until its time has come, so that time limits of
/// many short requests would hold memory for minutes. A closure is called up to a tick late, and must be quick.
final class Alarms: Sendable {
    /// The alarms of this process.
    static let shared = Alarms()

    private struct Alarm {
        let time: Int64
        let ring: @Sendable () -> Void
    }
    private struct State {
        var alarms: [UInt64: Alarm] = [:]
        var last: UInt64 = 0
        var isWatching = false
    }
    private static let tickMilliseconds = 10
    private static let millisecondsMax = 86_400_000

    private let state = Mutex(State())

    /// Alarms that are set: as many as there are requests that have a limit, not as there were.
    var count: Int { state.withLock { $0.alarms.count } }

    /// Has a closure called after a time; what is returned calls it off.
    func set(milliseconds: Int, _ ring: @escaping @Sendable () -> Void) -> UInt64 {
        let delay = Int64(min(max(0, milliseconds), Alarms.millisecondsMax))
        let (number, mustWatch) = state.withLock { state -> (UInt64, Bool) in
            state.last &+= 1
            state.alarms[state.last] = Alarm(time: MonotonicClock.nanoseconds + delay * 1_000_000, ring: ring)
            defer { state.isWatching = true }
            return (state.last, !state.isWatching)
        }
        if mustWatch { Task.detached { [self] in await watch() } }
        return number
    }

    /// Calls one off; one that rings just now may still be heard.
    func cancel(_ number: UInt64) {
        // The closure leaves the lock before what it holds is let go.
        let alarm = state.withLock { $0.alarms.removeValue(forKey: number) }
        withExtendedLifetime(alarm) {}
    }

    private func watch() async {
        while true {
            try? await Task.sleep(for: .milliseconds(Alarms.tickMilliseconds))
            let now = MonotonicClock.nanoseconds
            let due = state.withLock { state -> [Alarm]? in
                if state.alarms.isEmpty {
                    state.isWatching = false
                    return nil
                }
                let due = state.alarms.filter { $0.value.time <= now }
                for number in due.keys { state.alarms[number] = nil }
                return Array(due.values)
            }
            guard let due else { return }
            for alarm in due.sorted(by: { $0.time < $1.time }) { alarm.ring() }
        }
    }
}
