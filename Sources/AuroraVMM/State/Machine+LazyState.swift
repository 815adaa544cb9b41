internal import CLinux
import Linux
import Synchronization

extension Machine {
    /// Makes a machine that goes on where another was saved, and fetches each page of memory when it is first touched;
    /// at rest until `start()`.
    ///
    /// Costs the same whatever the size of memory. Where userfaultfd is not permitted, all pages are read before this returns.
    ///
    /// - Parameters:
    ///   - state: what `save()` answered, on this or another host.
    ///   - pages: the contents of `state.memory`; must answer as long as the machine lives.
    ///   - policy: what is fetched when.
    /// - Throws: `MachineError.state` saying what does not fit this host, this program, or this configuration.
    public convenience init(
        _ configuration: MachineConfiguration, restoring state: MachineState, pages: any PageSource, policy: LazyPolicy = LazyPolicy()
    ) throws(MachineError) {
        try self.init(configuration, restoring: state, into: try RestoredMemory(of: state, pages: pages, policy: policy))
    }

    /// Makes a machine that goes on where another was saved, in memory that was made ahead of it; at rest until `start()`.
    ///
    /// - Parameters:
    ///   - state: what `save()` answered, on this or another host.
    ///   - memory: made for this state, and for one machine.
    /// - Throws: `MachineError.state` saying what does not fit this host, this program, or this configuration.
    public convenience init(
        _ configuration: MachineConfiguration, restoring state: MachineState, into memory: RestoredMemory
    ) throws(MachineError) {
        var clock = clinux_clock_ns(CLOCK_MONOTONIC)
        func lap() -> Int64 {
            let now = clinux_clock_ns(CLOCK_MONOTONIC)
            defer { clock = now }
            return now - clock
        }
        var times = RestoreTimes()
        times.memory = memory.nanoseconds
        let lazy = memory.lazy
        do throws(MachineError) {
            let parts = try MachineParts(configuration, system: try KVMSystem(), state: state, memory: memory.mappings, lazy: lazy)
            times.machine = lap()
            try parts.load(state)
            times.state = lap()
            try self.init(parts)
        } catch {
            if let failure = lazy?.failure { throw .state("\(failure)") }
            throw error
        }
        let runner = runner
        lazy?.setFailureHandler { [unowned runner] error in runner.condemn("\(error)") }
        if let failure = lazy?.failure { throw .state("\(failure)") }
        times.threads = lap()
        lazyTimes.withLock { $0 = times }
    }

    /// What the lazy restore cost that made this machine; nil when it was made in another way.
    public var restoreTimes: RestoreTimes? { lazyTimes.withLock { $0 } }
}

extension PageSource {
    private static var runMax: Int { 256 }

    /// Reads every page into fresh memory.
    ///
    /// - Throws: `PageSourceError`.
    func readAll(into memory: [Mapping]) throws(PageSourceError) {
        var firstPage = 0
        for mapping in memory {
            let end = firstPage + mapping.count / pageBytes
            var page = firstPage
            while page < end {
                var next = page
                while next < end, next - page < Self.runMax, has(next) { next += 1 }
                if next > page {
                    let place = mapping.base + (page - firstPage) * pageBytes
                    try readToGoOn(page: page, count: next - page, into: .init(start: place, count: (next - page) * pageBytes))
                }
                page = max(next, page + 1)
            }
            firstPage = end
        }
    }
}

extension GuestMemory {
    /// Refuses memory some of whose pages can never be had.
    ///
    /// - Throws: `MachineError.state` naming the reason.
    func checkWhole() throws(MachineError) {
        guard let lazy, !lazy.isWhole else { return }
        throw .state(lazy.failure.map { "\($0)" } ?? "the machine was stopped before all of its pages were there")
    }
}
