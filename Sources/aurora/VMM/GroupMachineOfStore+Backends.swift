import AuroraVMM
import CLinux
import Dispatch
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
        do throws(PipelineError) {
            let pipeline = try EpochPipeline(machine, configuration)
            pipeline.setCheckpointsPaused(true)
            state.withLock { $0.pipeline = pipeline }
            return pipeline
        } catch { throw GroupError(.host, "\(error)") }
    }

    private func note(_ event: PipelineEvent) {
        switch event {
        case .durable(let epoch, StoreBackend.name):
            contexts.durable(epoch.rawValue)
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
        try order.withLock { _ in
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

    func detach(_ kind: BackendKind) throws {
        try order.withLock { _ in
            guard let pipeline = state.withLock({ $0.pipeline }), pipeline.backends.contains(where: { $0.name == kind.rawValue }) else {
                throw GroupError(.invalidValue, "The group has no backend \(kind.rawValue)")
            }
            if kind == .store { state.withLock { $0.history }?.giveUpWaiting() }
            do throws(PipelineError) { try pipeline.detach(kind.rawValue) } catch { throw GroupError(.host, "\(error)") }
            let history = state.withLock { state -> StoreHistory? in
                if kind == .memory { state.memory = nil }
                guard kind == .store else { return nil }
                defer { state.history = nil }
                return state.history
            }
            history?.finish()
        }
    }

    func setPeriod(_ period: PersistencePeriod) throws {
        state.withLock { $0.period = period }
        applyPeriod(state.withLock { $0.pipeline })
    }

    // MARK: - Checkpoints

    func checkpoint(name: String?) throws -> CheckpointReceipt {
        guard let pipeline = state.withLock({ $0.pipeline }) else { throw GroupError(.notRunning, "The group has no backend") }
        guard let name else { return try take(pipeline, nil) }
        // A name that is taken would make the backend fail, and there is one request of a name at a time.
        return try order.withLock { _ in
            try refuseTaken(name)
            return try take(pipeline, name)
        }
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
    func take(_ pipeline: EpochPipeline, _ name: String?) throws -> CheckpointReceipt {
        let history = state.withLock { $0.history }
        let backend = history == nil ? nil : StoreBackend.name
        // Who asks is told when there is no room, and may come again; the checkpoint may be made all the same when there is.
        let request: @Sendable () async -> Result<EpochNumber, PipelineError> = {
            do throws(PipelineError) { return .success(try await pipeline.requestCheckpoint(name: name, on: backend)) } catch {
                return .failure(error)
            }
        }
        let result = Waiting.result(request) { history?.waitsForRoom != nil }
        switch result {
        case nil:
            throw GroupError(
                .host, "The checkpoint waits for room in the store. \(history?.waitsForRoom ?? "There is some again")",
                remedy: "Make room and ask again; the group runs on meanwhile.")
        case .success(let number)?:
            let stop = pipeline.statistics.epochs.last?.stop ?? 0
            return CheckpointReceipt(number: number.rawValue, name: name, stopMicroseconds: Double(stop) / 1000)
        case .failure(let error)?: throw GroupError(.host, "\(error)")
        }
    }

    // MARK: - Figures

    /// Epochs that rates are taken of.
    private static let recentEpochs = 200

    func report() -> PersistenceReport {
        var report = PersistenceReport()
        let (pipeline, history, period) = state.withLock { ($0.pipeline, $0.history, $0.period) }
        report.period = period
        guard let pipeline else { return report }
        report.backends = pipeline.backends.compactMap { status in
            BackendKind(rawValue: status.name).map {
                PersistenceReport.Backend(
                    kind: $0, durableNumber: status.durable?.rawValue,
                    error: status.failure?.description, waitsFor: $0 == .store ? history?.waitsForRoom : nil)
            }
        }
        report.latestNumber = pipeline.lastEpoch.rawValue
        let statistics = pipeline.statistics
        report.count = Int(clamping: statistics.count)
        let epochs = statistics.epochs
        let recent = epochs.suffix(GroupMachineOfStore.recentEpochs).filter { $0.period > 0 }
        let seconds = recent.reduce(0.0) { $0 + Double($1.period) / 1e9 }
        if seconds > 0 {
            report.rate = Double(recent.count) / seconds
            report.dirtyPagesPerSecond = Double(recent.reduce(0) { $0 + $1.pages + $1.stagedPages + $1.volumePages }) / seconds
        }
        if !epochs.isEmpty {
            let stops = statistics.distribution(\.stop)
            report.stops = PersistenceReport.Stops(
                median: Double(stops.p50) / 1000, p99: Double(stops.p99) / 1000, max: Double(stops.max) / 1000)
        }
        if let history {
            let counters = history.backend.counters
            report.storedBytes = Int(clamping: counters.writtenBytes)
            report.logicalBytes = Int(clamping: counters.offeredPages &* UInt64(pageBytes))
            report.durabilityLagMilliseconds = contexts.durableLagMilliseconds
        }
        return report
    }
}

/// Waiting on a thread for what an asynchronous function answers.
enum Waiting {
    private static let lookMilliseconds = 100

    /// Runs it, and returns when it has answered; never on a thread of Swift's own pool.
    static func result<Answer: Sendable>(_ body: @escaping @Sendable () async -> Answer) -> Answer {
        while true { if let answer = result(body, unless: { false }) { return answer } }
    }

    /// The same; nil when there is an obstacle, which is looked for until it has answered.
    static func result<Answer: Sendable>(
        _ body: @escaping @Sendable () async -> Answer, unless isObstructed: () -> Bool
    ) -> Answer? {
        let done = DispatchSemaphore(value: 0)
        let holder = Holder<Answer>()
        Task.detached {
            let answer = await body()
            holder.set(answer)
            done.signal()
        }
        while true {
            _ = done.wait(timeout: .now() + .milliseconds(lookMilliseconds))
            if let answer = holder.value { return answer }
            if isObstructed() { return nil }
        }
    }

    private final class Holder<Answer: Sendable>: Sendable {
        private let answer = Mutex<Answer?>(nil)
        func set(_ value: Answer) { answer.withLock { $0 = value } }
        var value: Answer? { answer.withLock { $0 } }
    }
}
