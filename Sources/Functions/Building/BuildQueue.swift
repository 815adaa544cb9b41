internal import Synchronization

/// Has builds wait for their turn.
final class BuildQueue: Sendable {
    /// A place in the line that was promised to a change before it was taken on; it is given back with this.
    final class Place: Sendable {
        private let isTaken = Mutex(false)
        private let giveBack: @Sendable () -> Void

        fileprivate init(giveBack: @escaping @Sendable () -> Void) { self.giveBack = giveBack }

        deinit { end() }

        fileprivate func end() {
            let wasTaken = isTaken.withLock { isTaken in
                defer { isTaken = true }
                return isTaken
            }
            if !wasTaken { giveBack() }
        }
    }

    private struct State {
        var line: BuildLine
        var waiters: [BuildLine.Ticket: CheckedContinuation<BuildLine.Ticket, Never>] = [:]
        /// Builds that have taken longer than they should.
        var late: Set<BuildLine.Ticket> = []
    }
    private let limits: BuildLimits
    private let state: Mutex<State>

    init(_ limits: BuildLimits) {
        self.limits = limits
        state = Mutex(State(line: BuildLine(limits)))
    }

    /// Builds that wait and that run.
    var counts: (waiting: Int, running: Int) { state.withLock { ($0.line.waitingCount, $0.line.runningCount) } }

    /// A place for one more change; nil when so many wait that it would be refused.
    func reserve() -> Place? {
        guard state.withLock({ $0.line.reserve() }) else { return nil }
        return Place { [weak self] in self?.state.withLock { $0.line.unreserve() } }
    }

    /// Runs a build when it is its turn.
    ///
    /// - Parameters:
    ///   - place: the place it was promised; nil: it was taken on before this gateway was started.
    ///   - isRetry: whether it only tries an initialization again.
    func run<Result: Sendable>(_ place: Place?, isRetry: Bool, _ body: () async -> Result) async -> Result {
        let ticket = await turn(place, isRetry)
        let alarm = Alarms.shared.set(milliseconds: limits.patienceMilliseconds) { [weak self] in self?.isLate(ticket) }
        defer {
            Alarms.shared.cancel(alarm)
            end(ticket)
        }
        return await body()
    }

    private func turn(_ place: Place?, _ isRetry: Bool) async -> BuildLine.Ticket {
        await withCheckedContinuation { (continuation: CheckedContinuation<BuildLine.Ticket, Never>) in
            state.withLock { state in
                let ticket = state.line.add(isRetry: isRetry)
                state.waiters[ticket] = continuation
            }
            place?.end()
            advance()
        }
    }

    private func isLate(_ ticket: BuildLine.Ticket) {
        state.withLock { _ = $0.late.insert(ticket) }
        advance()
    }

    private func end(_ ticket: BuildLine.Ticket) {
        state.withLock { state in
            state.line.remove(ticket)
            state.late.remove(ticket)
        }
        advance()
    }

    /// Gives turns to those whose it is.
    private func advance() {
        let turns = state.withLock { state in
            for ticket in state.line.prompt where state.late.contains(ticket) { _ = state.line.slow(ticket) }
            return state.line.next().map { ($0, state.waiters.removeValue(forKey: $0)) }
        }
        for (ticket, waiter) in turns { waiter?.resume(returning: ticket) }
    }
}
