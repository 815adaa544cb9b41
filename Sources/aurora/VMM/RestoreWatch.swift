import AuroraVMM
import CLinux
import Groups

/// Measures what it takes until a group that goes on from a checkpoint may run.
struct RestoreWatch: Sendable {
    private let begin = clinux_clock_ns(CLOCK_MONOTONIC)
    private var last: Int64
    private(set) var times = GroupRestoreTimes(store: 0)

    /// Begins.
    init() { last = begin }

    /// The state has been read and decoded.
    mutating func foundState() { times.store = lap() }

    /// The process is ready to make the machine; what passed before, while both went on at once, is in the total.
    mutating func goesOn() { last = clinux_clock_ns(CLOCK_MONOTONIC) }

    /// The disks are there.
    mutating func madeDisks() { times.disks = lap() }

    /// The machine has been made; its parts are its own to tell.
    mutating func madeMachine(_ parts: RestoreTimes?) {
        last = clinux_clock_ns(CLOCK_MONOTONIC)
        guard let parts else { return }
        times.memory = Double(parts.memory) / 1000
        times.machine = Double(parts.machine) / 1000
        times.state = Double(parts.state) / 1000
        times.threads = Double(parts.threads) / 1000
    }

    /// The processor may run.
    mutating func resumed() {
        times.history = lap()
        times.total = Double(last - begin) / 1000
        times.resumedAt = Double(last) / 1e9
    }

    private mutating func lap() -> Double {
        let now = clinux_clock_ns(CLOCK_MONOTONIC)
        defer { last = now }
        return Double(now - last) / 1000
    }
}
