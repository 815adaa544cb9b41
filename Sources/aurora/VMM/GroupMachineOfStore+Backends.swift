import AuroraVMM
import CLinux
import Groups
import Linux
import Snapshot
import Store
import Synchronization

/// Attaching and detaching, and checkpoints by the clock and by hand.
extension GroupMachineOfStore: GroupPersistence {
    // MARK: - Beginning

    func begin() throws {
        let settings = environment.configuration.persistence
        // A group that was rolled back begins again, with the backends it has.
        let isFirst = state.withLock { state in
            defer { (state.hasBegun, state.hasAttached) = (true, true) }
            return !state.hasAttached
        }
        for kind in settings?.backends ?? [] where isFirst && (origin == nil || kind != .store) { try attach(kind) }
        applyPeriod(state.withLock { $0.pipeline })
    }

    func applyPeriod(_ pipeline: EpochPipeline?) {
        guard let pipeline else { return }
        let (period, isTicking) = state.withLock { ($0.period, $0.isTicking) }
        if let microseconds = period.microseconds { pipeline.setPeriod(.fixed(nanoseconds: Int64(microseconds) * 1000)) }
        pipeline.setCheckpointsPaused(!isTicking)
    }

    /// The store's backend of a machine that went on from a checkpoint: it has all but what is written from now on.
    func attach(_ origin: CheckpointReader, to pipeline: EpochPipeline) throws {
        let history = try StoreHistory.resume(self, from: origin)
        pipeline.advance(to: EpochNumber(history.writer.lastNumber))
        do throws(PipelineError) {
            try pipeline.attach(history.backend, base: EpochNumber(history.writer.lastNumber))
        } catch { throw GroupError(.host, "\(error)") }
        state.withLock { $0.history = history }
        applyPeriod(pipeline)
    }

    /// A pipeline for this machine; nothing is attached yet.
    func makePipeline(after last: UInt64) throws -> EpochPipeline {
        var configuration = PipelineConfiguration()
        configuration.lastEpoch = EpochNumber(last)
        configuration.participants =
            disks.volumes.map { VolumeParticipant($0.volume, map: Int($0.map), streamsBase: $0.isImported) } + [contexts]
        configuration.report = { [weak self] in self?.note($0) }
        let pipeline: EpochPipeline
        do throws(PipelineError) { pipeline = try EpochPipeline(machine, configuration) } catch { throw GroupError(.host, "\(error)") }
        pipeline.setCheckpointsPaused(true)
        state.withLock { $0.pipeline = pipeline }
        try watchHealth()
        return pipeline
    }

    private func note(_ event: PipelineEvent) {
        switch event {
        case .durable(_, StoreBackend.name):
            state.withLock { $0.history }?.maintain()
        case .durable: break
        case .backendFailed(let error, let isPaused):
            let rest = isPaused ? ". The group stands still; when the cause is removed: aurora detach, attach, resume" : ""
            environment.warn("\(error)\(rest)")
        case .failed(.stopped), .failed(.ended): break
        case .failed(let error): environment.warn("No more checkpoints are made: \(error)")
        }
    }

    // MARK: - Backends

    func attach(_ kind: BackendKind) throws {
        try inOrder("an attachment") {
            guard !report().backends.contains(where: { $0.kind == kind }) else {
                throw GroupError(.invalidValue, "The group has the backend \(kind.rawValue) already")
            }
            guard !disks.hasFiles else {
                throw GroupError(
                    .invalidValue, "The group was started by run with volumes: its programs write to the files, which no checkpoint holds",
                    remedy: "End it, which writes the volumes out, and start it with aurora persist and the same --volume: what is in the "
                        + "files is then copied into the store, and the files stay as they are.")
            }
            switch kind {
            case .memory:
                let memory = MemoryBackend()
                let pipeline = try state.withLock { $0.pipeline } ?? makePipeline(after: 0)
                try attach(memory, to: pipeline)
                state.withLock { $0.memory = memory }
            case .store:
                let history = try StoreHistory.begin(self)
                let pipeline = try state.withLock { $0.pipeline } ?? makePipeline(after: history.writer.lastNumber)
                pipeline.advance(to: EpochNumber(history.writer.lastNumber))
                try attach(history.backend, to: pipeline)
                state.withLock { $0.history = history }
            }
            applyPeriod(state.withLock { $0.pipeline })
        }
    }

    private func attach(_ backend: any Backend, to pipeline: EpochPipeline) throws {
        do throws(PipelineError) { try pipeline.attach(backend) } catch { throw GroupError(.host, "\(error)") }
    }

    func detach(_ kind: BackendKind, within seconds: Double) throws {
        try inOrder("a detachment", withinSeconds: seconds) {
            guard let pipeline = state.withLock({ $0.pipeline }), pipeline.backends.contains(where: { $0.name == kind.rawValue }) else {
                throw GroupError(.invalidValue, "The group has no backend \(kind.rawValue)")
            }
            if kind == .store { state.withLock { $0.history }?.giveUpWaiting() }
            var failure: PipelineError?
            do throws(PipelineError) { try pipeline.detach(kind.rawValue, withinSeconds: seconds) } catch { failure = error }
            let history = state.withLock { state -> StoreHistory? in
                if kind == .memory { state.memory = nil }
                guard kind == .store else { return nil }
                defer { state.history = nil }
                return state.history
            }
            let isFinished = history?.finish(withinSeconds: GroupMachineOfStore.historySeconds) ?? true
            if let failure { throw GroupMachineOfStore.detached(failure) }
            guard isFinished else {
                throw GroupError(
                    .timeout,
                    "The backend \(kind.rawValue) was let go, but the end of the history has not been written: a disk may not answer",
                    remedy: GroupMachineOfStore.lossRemedy)
            }
        }
    }

    private static let lossRemedy =
        "The group runs on without it. When the disk answers again, go on with: aurora attach GROUP --backend store"

    /// What somebody hears who let go of a backend that did not end in order.
    private static func detached(_ error: PipelineError) -> GroupError {
        guard case .lost = error else { return GroupError(.host, "\(error)") }
        return GroupError(.timeout, "\(error)", remedy: lossRemedy)
    }

    func setPeriod(_ period: PersistencePeriod) throws {
        state.withLock { $0.period = period }
        applyPeriod(state.withLock { $0.pipeline })
    }

    // MARK: - Checkpoints

    func checkpoint(name: String?, within seconds: Double) throws -> CheckpointReceipt {
        guard let pipeline = state.withLock({ $0.pipeline }) else { throw GroupError(.notRunning, "The group has no backend") }
        guard let name else { return try take(pipeline, nil, within: seconds) }
        // A name that is taken would make the backend fail. Only the look is in order with others: what waits for a backend must not
        // keep anybody from letting go of it.
        try inOrder("a look at the names of checkpoints", withinSeconds: seconds) {
            try refuseTaken(name)
            let isNew = state.withLock { $0.namesAsked.insert(name).inserted }
            guard isNew else {
                throw GroupError(.nameTaken, "A checkpoint \(name) of the group is under way", remedy: "Choose another name, or wait.")
            }
        }
        return try take(pipeline, name, within: seconds)
    }

    private func refuseTaken(_ name: String) throws {
        guard let history = state.withLock({ $0.history }) else { return }
        let found: CheckpointReader
        do throws(StoreError) {
            found = try history.access.store.checkpoint(stream: environment.streamName, .name(name))
        } catch {
            if case .noCheckpoint = error { return }
            throw error
        }
        throw GroupError(
            .nameTaken, "The group has a checkpoint \(name) already (number \(found.number))", remedy: "Choose another name.")
    }

    /// What is asked for must be in the store where there is one, not only in a backend that has a whole checkpoint sooner.
    func take(
        _ pipeline: EpochPipeline, _ name: String?, within seconds: Double = CheckpointReceipt.secondsDefault
    ) throws -> CheckpointReceipt {
        let history = state.withLock { $0.history }
        let answer = PromisedAnswer<Result<EpochNumber, PipelineError>>()
        let request = pipeline.ask(name: name, on: history == nil ? nil : StoreBackend.name) { answer.set($0) }
        var result = answer.wait(seconds: seconds) { history?.waitsForRoom != nil }
        var withdrawal = EpochPipeline.Withdrawal.answered
        if result == nil, let request {
            // Taken back, so that nobody is told later; one that is just being answered is answered.
            withdrawal = pipeline.withdraw(request)
            if withdrawal == .answered { result = answer.wait(seconds: GroupMachineOfStore.answeringSeconds) { false } }
        }
        // The name of what was begun and not waited for stays in use.
        if let name, withdrawal == .answered || withdrawal == .notBegun { state.withLock { _ = $0.namesAsked.remove(name) } }
        switch result {
        case .success(let number)?:
            let stop = pipeline.statistics.epochs.last?.stop ?? 0
            return CheckpointReceipt(number: number.rawValue, name: name, stopMicroseconds: Double(stop) / 1000)
        case .failure(let error)?: throw GroupError(.host, "\(error)")
        case nil: throw notDurable(history, seconds, withdrawal)
        }
    }

    /// An answer that is on its way comes by a thread that waits for nothing: this long on the most crowded host.
    private static let answeringSeconds = 10.0

    /// Who asks is told what it waits for, and may come again; what has been begun may become durable all the same.
    private func notDurable(_ history: StoreHistory?, _ seconds: Double, _ withdrawal: EpochPipeline.Withdrawal) -> GroupError {
        if let problem = history?.waitsForRoom {
            return GroupError(
                .host, "The checkpoint waits for room in the store. \(problem)",
                remedy: "Make room and ask again; the group runs on meanwhile.")
        }
        let rest = if case .begun(let number) = withdrawal { " It may become durable yet, as number \(number)." } else { "" }
        return GroupError(
            .timeout, "The checkpoint was not durable within \(CheckpointFormat.tenths(seconds)) s. \(health.reason ?? obstacle)\(rest)",
            remedy: "Wait longer with --timeout, or see how the checkpoints go with: aurora ps")
    }

    private var obstacle: String { state.withLock { $0.pipeline }.map { "Now: \($0.progress.activity)." } ?? "There is no backend." }

    // MARK: - Figures

    func report() -> PersistenceReport {
        var report = PersistenceReport()
        let (pipeline, history, period) = state.withLock { ($0.pipeline, $0.history, $0.period) }
        report.period = period
        guard let pipeline else { return report }
        report.health = health
        let statuses = pipeline.backends
        report.backends = statuses.compactMap { status in
            BackendKind(rawValue: status.name).map {
                PersistenceReport.Backend(
                    kind: $0, durableNumber: status.durable?.rawValue,
                    error: status.failure?.description, waitsFor: $0 == .store ? history?.waitsForRoom : nil)
            }
        }
        report.latestNumber = pipeline.lastEpoch.rawValue
        let recent = pipeline.recentFigures
        (report.rate, report.dirtyPagesPerSecond) = (recent.rate, recent.pagesPerSecond)
        let statistics = pipeline.statistics
        report.count = Int(clamping: statistics.count)
        if statistics.count > 0 {
            let stops = statistics.distribution(\.stop)
            report.stops = PersistenceReport.Stops(
                median: Double(stops.p50) / 1000, p99: Double(stops.p99) / 1000, max: Double(stops.max) / 1000)
        }
        // What a crash would resume is in the store, where there is one.
        let durable = statuses.first { $0.name == StoreBackend.name } ?? statuses.first
        let now = clinux_clock_ns(CLOCK_MONOTONIC)
        report.durabilityLagMilliseconds = durable?.durableStop.map { Double(max(0, now - $0)) / 1e6 }
        if let history {
            let counters = history.backend.counters
            report.storedBytes = Int(clamping: counters.writtenBytes)
            report.logicalBytes = Int(clamping: counters.offeredPages &* UInt64(pageBytes))
        }
        return report
    }
}
