internal import AgentClient
internal import AgentProtocol
internal import CLinux
internal import Linux
import Synchronization

/// Checkpoints of the running group, and how it goes on after it was put back to one.
extension GroupRuntime {
    /// Bytes that a restored guest's generator gets.
    private static let seedBytes = 64

    /// What must differ in a guest that goes on from a checkpoint: clock, randomness and, for a clone, its name.
    func adjustGuest(_ agent: AgentClient, _ context: GroupContext) throws(GroupError) {
        do throws(AgentError) {
            try agent.setClock(nanoseconds: UInt64(max(0, clinux_wall_nanoseconds())))
            var seed = [UInt8](repeating: 0, count: GroupRuntime.seedBytes)
            var generator = SystemRandomNumberGenerator()
            for index in seed.indices { seed[index] = UInt8.random(in: 0 ... .max, using: &generator) }
            try agent.reseed(entropy: seed)
            if context.configuration.name != configuration.name {
                try agent.configure(ConfigureRequest(hostname: Text(configuration.name.text), network: nil, wallClockNanoseconds: 0))
            }
        } catch {
            throw GroupAgent.failure(error)
        }
    }

    /// The program runs: from now on there is something to go back to.
    func beginPersistence() throws {
        guard let persistence = machine.withLock({ $0 })?.persistence else { return }
        try persistence.begin()
        noteBackends(persistence)
    }

    private func noteBackends(_ persistence: any GroupPersistence) {
        let kinds = persistence.report().backends.map(\.kind)
        update { $0.backends = kinds.isEmpty ? nil : kinds }
    }

    /// Connects to the program again after the machine was put back in place.
    ///
    /// The next rollback may come at any moment and cut this off: then it begins again with what that one left, or ends where that
    /// one is not over yet, which tells by an event.
    func goOn(_ application: ApplicationSession, _ loop: EventLoop) throws {
        var stops: [(Event, EventQueue<Event>.Lane)] = []
        defer { for (event, lane) in stops { events.push(event, lane) } }
        var connected: UInt64 = 0
        while let (context, number) = lastRollback.withLock({ $0 }), number > connected, isLast(rollback: number) {
            connected = number
            let pausesBefore = pauses.load(ordering: .acquiring)
            do {
                guard let agent = try waitForAgentAgain(deferring: &stops) else { return }
                try adjustGuest(agent, context)
                agent.close()
                let socket = try GroupAgent.openSession(directory)
                loop.run { [self] in
                    // Asked on the loop's thread, where a rollback lets go of the connection: it finds this one, or this finds it.
                    guard isLast(rollback: number) else { return }
                    application.resume(socket, session: context.session, receivedBytes: context.outputBytes)
                }
            } catch {
                guard isLast(rollback: number) else { continue }
                // A guest that was paused in the midst of an answer is asked anew.
                guard pauses.load(ordering: .acquiring) != pausesBefore else { throw error }
                connected = 0
            }
        }
    }

    /// Nil when the group ends meanwhile, which is then the next event; what can wait is put aside.
    private func waitForAgentAgain(deferring stops: inout [(Event, EventQueue<Event>.Lane)]) throws -> AgentClient? {
        try waitForAgent { event in
            switch event {
            case .session, .rolledBack: return true
            case .stop, .saved:
                stops.append((event, .order))
                return true
            case .machineEnded:
                stops.append((event, .once))
                return false
            case .powerCut:
                stops.append((event, .last))
                return false
            }
        }
    }

    private func isLast(rollback number: UInt64) -> Bool { rollbacks.load(ordering: .acquiring) == number }

    // MARK: - Requests

    func answerPersistence(_ request: HTTPRequest) throws -> HTTPResponse? {
        switch (request.method, request.path) {
        case ("GET", "/v1/persistence"):
            return try json(machine.withLock { $0 }?.persistence?.report() ?? PersistenceReport())
        case ("GET", "/v1/events"): return try json(try recentEvents(request))
        case ("GET", "/metrics"): return metrics()
        case ("POST", "/v1/checkpoint"): return try json(try checkpoint(request))
        case ("POST", "/v1/attach"):
            let (persistence, kind) = (try persistenceOfRunning(), try BackendKind(parsing: request.parameters["backend"] ?? ""))
            try persistence.attach(kind)
            tell(.backend, "\(kind.rawValue) attached")
            noteBackends(persistence)
        case ("POST", "/v1/detach"):
            let (persistence, kind) = (try persistenceOfRunning(), try BackendKind(parsing: request.parameters["backend"] ?? ""))
            let seconds = try GroupRuntime.seconds(request.parameters["seconds"])
            // Also where it has not ended in order: it is let go all the same.
            defer { noteBackends(persistence) }
            try persistence.detach(kind, within: seconds)
            tell(.backend, "\(kind.rawValue) detached")
        case ("POST", "/v1/period"):
            let period = try PersistencePeriod(parsing: request.parameters["period"] ?? "")
            try persistenceOfRunning().setPeriod(period)
            tell(.backend, "period \(period)")
        case ("POST", "/v1/rollback"):
            try rollback(request)
            tell(.rollback, "back to \(request.parameters["to"] ?? "latest")")
        default: return nil
        }
        return try done()
    }

    private func persistenceOfRunning() throws(GroupError) -> any GroupPersistence {
        if status.withLock({ $0.state }) == .paused {
            throw GroupError(
                .notRunning, "Group \(configuration.name) is paused", remedy: "Let it go on with: aurora resume \(configuration.name)")
        }
        try require(.running)
        guard let persistence = machine.withLock({ $0 })?.persistence else {
            throw GroupError(.host, "The machine of group \(configuration.name) cannot be checkpointed")
        }
        return persistence
    }

    private func checkpoint(_ request: HTTPRequest) throws -> CheckpointReceipt {
        let persistence = try persistenceOfRunning()
        guard !persistence.report().backends.isEmpty else {
            throw GroupError(
                .notRunning, "Group \(configuration.name) is not persisted: it has no backend",
                remedy: "Give it one with: aurora attach \(configuration.name) --backend store")
        }
        let name = try request.parameters["name"].map { try CheckpointName($0).text }
        let seconds = try GroupRuntime.seconds(request.parameters["seconds"])
        // After a rollback that is under way; one that begins later may take the checkpoint along.
        let former = try inOrder("a checkpoint") { rollbacks.load(ordering: .acquiring) }
        try refuseEnding()
        do {
            let receipt = try persistence.checkpoint(name: name, within: seconds)
            tell(.checkpoint, "\(receipt.number)\(name.map { " \($0)" } ?? "")")
            return receipt
        } catch {
            guard rollbacks.load(ordering: .acquiring) != former else { throw error }
            throw GroupError(
                .notRunning, "Group \(configuration.name) was rolled back meanwhile: no checkpoint was made of what it was before",
                remedy: "Ask again for one of what it is now.")
        }
    }

    private static func seconds(_ text: String?) throws(GroupError) -> Double {
        guard let text else { return CheckpointReceipt.secondsDefault }
        guard let seconds = Double(text), CheckpointReceipt.secondsRange.contains(seconds) else {
            throw GroupError(.invalidValue, "seconds must be 0.1 to 86400")
        }
        return seconds
    }

    private func recentEvents(_ request: HTTPRequest) throws(GroupError) -> GroupEvents {
        guard let number = UInt64(request.parameters["after"] ?? "0") else {
            throw GroupError(.invalidValue, "after must be the number of an event")
        }
        return journal.withLock { $0.events(after: number, process: getpid()) }
    }

    private func metrics() -> HTTPResponse {
        let report = machine.withLock { $0 }?.persistence?.report() ?? PersistenceReport()
        let (state, warnings) = status.withLock { ($0.state, $0.warnings.count) }
        let text = GroupMetrics.text(report, state: state, warnings: warnings, events: journal.withLock { $0.latest })
        return HTTPResponse(status: 200, contentType: GroupMetrics.contentType, body: Array(text.utf8))
    }

    /// Puts the machine back; the program's connection is made anew by the thread that waits for its end.
    private func rollback(_ request: HTTPRequest) throws {
        let selector = try CheckpointChoice(parsing: request.parameters["to"] ?? "latest")
        try inOrder("a rollback") {
            try refuseEnding()
            try rollback(to: selector)
        }
    }

    /// How long somebody waits for what another one does to the group's life, in nanoseconds.
    private static let orderNanoseconds: Int64 = 60_000_000_000

    /// Does what changes the group's life while nobody else does.
    ///
    /// - Throws: `GroupError` that names what has been going on for too long, or what `body` throws.
    func inOrder<Result>(
        _ what: StaticString, withinNanoseconds limit: Int64 = GroupRuntime.orderNanoseconds, _ body: () throws -> Result
    ) throws -> Result {
        let refusal = { (denial: Turn.Denial) -> any Error in
            GroupError(
                .timeout, "Group \(self.configuration.name) is busy: \(denial). It may be waiting for a disk that does not answer",
                remedy: "See how it goes with: aurora ps. End the group with: aurora stop \(self.configuration.name)")
        }
        return try lifeOrder.take(what, withinNanoseconds: limit, orThrow: refusal, body)
    }

    private func rollback(to selector: CheckpointChoice) throws {
        let persistence = try persistenceOfRunning()
        let number = rollbacks.add(1, ordering: .acquiringAndReleasing).newValue
        try forgetAgent()
        // Whether it was put back or, after an error, goes on as it was: the program must be connected again.
        let former = context
        defer {
            rollbacksOver.store(number, ordering: .releasing)
            events.push(.rolledBack)
        }
        do {
            let context = try persistence.rollback(to: selector) { forwarder.withLock { $0 }?.resetConnections() }
            update { status in
                status.session = context.session
                status.restoreCount = (status.restoreCount ?? 0) + 1
            }
            lastRollback.withLock { $0 = (context, number) }
        } catch {
            if let former { lastRollback.withLock { $0 = (former, number) } }
            throw error
        }
    }

    // MARK: - The last checkpoint

    /// How long a group that is stopped may take for its last checkpoint.
    static let lastCheckpointMilliseconds: Int64 = 10_000

    /// Takes a last checkpoint on a thread of its own, and tells when that is over: from it a stopped group goes on, not from what its
    /// program did in order to end.
    func saveBeforeEnd() {
        let events = events
        let started: ()? = try? DetachedThread.start("last-checkpoint") { [self] in
            do {
                try inOrder("the last checkpoint", withinNanoseconds: GroupRuntime.lastCheckpointMilliseconds * 1_000_000) {
                    isEnding.store(true, ordering: .releasing)
                    // A machine that stands still cannot end in order.
                    if isPaused { try letGoOn() }
                    if !configuration.removeWhenEnded { try machine.withLock { $0 }?.persistence?.takeLast() }
                }
            } catch {
                isEnding.store(true, ordering: .releasing)
                warn("No last checkpoint was made before the group was stopped: \(error)")
            }
            events.push(.saved, .order)
        }
        if started == nil { events.push(.saved, .order) }
    }

    /// The connection to a guest that is about to change under it says nothing any more.
    private func forgetAgent() throws {
        guard let (application, loop) = live.withLock({ $0 }) else { return }
        let done = try EventQueue<Bool>()
        loop.run {
            application.forgetAgent()
            done.push(true)
        }
        _ = done.next(timeoutMilliseconds: 10_000)
    }
}
