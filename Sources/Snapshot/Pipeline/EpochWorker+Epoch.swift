internal import AuroraVMM
internal import CLinux
import Synchronization

/// What a stop yields.
struct StoppedEpoch {
    let number: EpochNumber
    let state: MachineState
    let wallClock: Int64
    let monotonicClock: Int64
    /// When the guest was let go on.
    let released: Int64
    /// The name that somebody asked for.
    let name: String?
    /// Buffers that the stop took.
    let buffers: Int
    /// The backends that the epoch goes to, and those that only collect its pages.
    let ready: [BackendQueue]
    let filling: [BackendQueue]
}

extension EpochWorker {
    // MARK: - While the guest runs

    /// Copies what was written so far, once or a few times.
    func preCopy(_ statistics: inout EpochStatistics) throws(PipelineError) {
        let start = EpochWorker.now()
        var before: Int?
        while true {
            let copied = try copyRound(&statistics)
            statistics.rounds += 1
            if !planner.isWorthAnother(rounds: statistics.rounds, copied: copied, before: before) { break }
            before = copied
        }
        statistics.preCopy = EpochWorker.now() - start
    }

    private func copyRound(_ statistics: inout EpochStatistics) throws(PipelineError) -> Int {
        do throws(MachineError) { try machine.harvestDirtyPages() } catch { throw .machine(error) }
        var copied = 0
        var failure: PipelineError?
        machine.memory.drainDirtyPages { page in
            copied += 1
            if failure == nil, collector.batch.room == 0 {
                do throws(PipelineError) { try makeRoom(PagePool.chunkPages, &statistics) } catch { failure = error }
            }
            // What has no buffer is copied in the stop, or in the next round.
            if !collector.copy(page: page) { machine.memory.markDirty(page: page) }
        }
        if let failure { throw failure }
        return copied
    }

    /// Makes sure that there are buffers for more pages, or as many as there can be; waits for backends, and hands over what is
    /// there, where it must.
    ///
    /// - Throws: `PipelineError.noBackend` when nobody takes the epoch any more, `.stopped`, or a failure of the machine.
    private func makeRoom(_ pages: Int, _ statistics: inout EpochStatistics) throws(PipelineError) {
        while true {
            let ticket = pipeline.wake.ticket
            if collector.batch.reserve(pages) { break }
            switch RoomStep(situation) {
            case .handOver: stage(&statistics)
            case .goOn: return
            case .wait:
                if pipeline.state.withLock({ $0.isStopping }) { throw .stopped }
                pipeline.note(.waitsForBuffers)
                try rest(ticket, until: nil)
            case .abandon: throw pipeline.state.withLock { $0.isStopping } ? .stopped : .noBackend(nil)
            }
        }
        // An epoch that takes much of the pool goes ahead in parts.
        if collector.batch.chunksUsed > pool.usableChunks / 4 { stage(&statistics) }
    }

    private var situation: RoomStep.Situation {
        RoomStep.Situation(
            used: collector.batch.chunksUsed, leased: collector.batch.chunksLeased, free: pool.freeChunks, total: pool.usableChunks,
            hasTakers: pipeline.state.withLock { !$0.queues.isEmpty })
    }

    /// Buffers that a stop should find.
    func reserve(vainStops: Int) -> Int { planner.reserve(pool: pool.usableChunks * PagePool.chunkPages, vainStops: vainStops) }

    private func stage(_ statistics: inout EpochStatistics) {
        let pages = collector.takeAll()
        statistics.stagedPages += pages.count
        // Who takes nothing any more needs none of it.
        for queue in pipeline.state.withLock({ $0.queues }) { _ = queue.submit(.stage(pages)) }
    }

    // MARK: - While the guest stands still

    /// After so many stops in vain the guest stands still while parts of the epoch go to the backends, or an epoch larger than the
    /// pool would never end.
    private static let vainStopsMax = 4
    /// It stands still no longer without any buffer coming back: nanoseconds.
    private static let partMax: Int64 = 2_000_000_000

    /// Stops the guest, takes what belongs to the checkpoint, and lets it go on.
    func stopGuest(_ statistics: inout EpochStatistics) throws(PipelineError) -> StoppedEpoch {
        while true {
            if statistics.vainStops > 0 { _ = try copyRound(&statistics) }
            // In the stop nothing is allocated and no buffer touched for the first time.
            try makeRoom(reserve(vainStops: statistics.vainStops), &statistics)
            collector.batch.reserveEntries(planner.entries)
            pipeline.note(.stops)
            let (number, name, queues) = pipeline.state.withLock { state in
                let number = state.last.next
                return (number, state.ledger.take(for: number, ready: state.readyNames), state.queues)
            }
            let result: Result<StoppedEpoch?, PipelineError> = pipeline.guestIsPaused.withLock { isPaused in
                do throws(PipelineError) {
                    return .success(try stopWindow(number, name, queues, isPaused: isPaused, &statistics))
                } catch { return .failure(error) }
            }
            if let stopped = try result.get() { return stopped }
            // Taken anew by the next stop, with those that come until then.
            pipeline.state.withLock { $0.ledger.putBack() }
            statistics.vainStops += 1
            pipeline.note(.copies)
        }
    }

    /// Nil when the guest had written more than there is room for; it runs again, and another round is needed.
    private func stopWindow(
        _ number: EpochNumber, _ name: String?, _ queues: [BackendQueue], isPaused: Bool, _ statistics: inout EpochStatistics
    ) throws(PipelineError) -> StoppedEpoch? {
        // A base that is complete now, before the stop, holds no page newer than the epoch.
        let ready = queues.filter(\.isReady)
        // Asked once only: a base completed in between would miss this epoch's pages.
        let filling = queues.filter { queue in !ready.contains { $0 === queue } }
        let start = EpochWorker.now()
        if !isPaused { machine.pause() }
        let paused = EpochWorker.now()
        var isStopped = !isPaused
        defer { if isStopped { machine.resume() } }
        if let end = machine.end { throw .ended(end) }
        let state: MachineState
        do throws(MachineError) {
            state = try machine.save()
        } catch {
            // A machine that is being stopped is not paused, and its end is told a moment later.
            throw machine.isPaused ? .machine(error) : .ended(machine.end ?? .stopped)
        }
        let saved = EpochWorker.now()
        let before = collector.batch.used
        guard try copyLast(&statistics) else { return nil }
        let buffers = max(0, collector.batch.used - before)
        let copied = EpochWorker.now()
        for participant in pipeline.configuration.participants { participant.freeze(number) }
        let frozen = EpochWorker.now()
        pipeline.configuration.inspectStop?(number)
        let inspected = pipeline.configuration.inspectStop == nil ? frozen : EpochWorker.now()
        if isStopped { machine.resume() }
        isStopped = false
        let resumed = EpochWorker.now()
        statistics.pause = paused - start
        statistics.state = saved - paused
        statistics.copy = copied - saved
        statistics.volumes = frozen - copied
        statistics.resume = resumed - inspected
        return StoppedEpoch(
            number: number, state: state, wallClock: clinux_clock_ns(CLOCK_REALTIME) - (resumed - paused), monotonicClock: paused,
            released: inspected,
            name: name, buffers: buffers, ready: ready, filling: filling)
    }

    /// The pages written since the last round; false when there was no room for all.
    private func copyLast(_ statistics: inout EpochStatistics) throws(PipelineError) -> Bool {
        do throws(MachineError) { try machine.harvestDirtyPages() } catch { throw .machine(error) }
        let goesAheadInParts = statistics.vainStops >= EpochWorker.vainStopsMax
        var isComplete = true
        var count = 0
        machine.memory.drainDirtyPages { page in
            count += 1
            if collector.copy(page: page) { return }
            if isComplete, goesAheadInParts, makeRoomInStop(&statistics), collector.copy(page: page) { return }
            isComplete = false
            machine.memory.markDirty(page: page)
        }
        statistics.pagesInStop = count
        return isComplete
    }

    /// Hands over a part of the epoch and gets buffers for more, while the guest stands still; false when none come.
    private func makeRoomInStop(_ statistics: inout EpochStatistics) -> Bool {
        let deadline = EpochWorker.now() + EpochWorker.partMax
        while true {
            let ticket = pipeline.wake.ticket
            if collector.batch.reserve(PagePool.chunkPages) { return true }
            switch RoomStep(situation) {
            case .handOver: stage(&statistics)
            case .wait:
                let left = deadline - EpochWorker.now()
                if left <= 0 || pipeline.state.withLock({ $0.isStopping }) { return false }
                pipeline.wake.wait(ticket, nanoseconds: left)
            case .goOn, .abandon: return false
            }
        }
    }

    // MARK: - When the guest runs again

    /// Collects the volumes' pages and hands the epoch over.
    func finish(_ stop: StoppedEpoch, _ statistics: inout EpochStatistics) throws(PipelineError) {
        statistics.pages = collector.batch.count
        // The vCPU's own word is better than this thread's, which may have had to wait for a processor.
        let running = machine.runningSince
        if running > stop.released { statistics.resume = running - stop.released }
        for participant in pipeline.configuration.participants {
            pipeline.note(.reads(participant.map))
            try collect(participant, stop, &statistics)
        }
        let epoch = Epoch(
            number: stop.number, name: stop.name, wallClock: stop.wallClock,
            monotonicClock: stop.monotonicClock, state: stop.state, pages: collector.takeAll(), statistics: statistics)
        let recorded = statistics
        pipeline.deliver(
            pipeline.state.withLock { state in
                // A backend with a longer history may have come meanwhile.
                state.last = max(state.last, stop.number)
                state.history.append(recorded)
                return state.ledger.handOver(
                    stop.number, to: Set(stop.ready.map(\.backend.name)), attached: Set(state.queues.map(\.backend.name)))
            })
        for queue in stop.ready {
            let isAccepted = queue.submit(.write(epoch))
            // It may have failed before those who wait for this epoch were noted down; one that is being detached answers them itself.
            if !isAccepted, let refusal = queue.refusal { pipeline.settle(queue.backend.name, .backend(refusal)) }
        }
        for queue in stop.filling where !epoch.pages.isEmpty { _ = queue.submit(.stage(epoch.pages)) }
    }

    private func collect(
        _ participant: any EpochParticipant, _ stop: StoppedEpoch, _ statistics: inout EpochStatistics
    ) throws(PipelineError) {
        var staged = EpochStatistics()
        let sink = BatchSink(collector.batch, map: participant.map) { () throws(PipelineError) in
            do throws(PipelineError) { try self.makeRoom(PagePool.chunkPages, &staged) } catch {
                // The rest is read out all the same, or the disk would keep it for ever.
                guard case .noBackend = error else { throw error }
                return false
            }
            return true
        }
        do {
            try participant.collect(stop.number, into: sink)
        } catch let error as PipelineError {
            throw error
        } catch { throw .volume(participant.map, "\(error)") }
        statistics.volumePages += sink.count
        statistics.stagedPages += staged.stagedPages
    }
}
