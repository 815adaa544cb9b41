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
    let requests: [EpochPipeline.Request]
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
            if !collector.copy(page: page) { machine.memory.markDirty(page: page) }
        }
        if let failure { throw failure }
        return copied
    }

    /// Makes sure that there are buffers for more pages; waits for backends, and hands over what is there, where it must.
    private func makeRoom(_ pages: Int, _ statistics: inout EpochStatistics) throws(PipelineError) {
        while !collector.batch.reserve(pages) {
            let ticket = pipeline.wake.ticket
            if collector.batch.count > 0 { stage(&statistics) }
            if collector.batch.reserve(pages) { return }
            try waitForBackends(ticket)
        }
        // An epoch that takes much of the pool goes ahead in parts.
        if collector.batch.chunksUsed > pool.chunkCount / 4 { stage(&statistics) }
    }

    private func waitForBackends(_ ticket: UInt32) throws(PipelineError) {
        let isStopping = pipeline.state.withLock { $0.isStopping || $0.queues.isEmpty }
        if isStopping { throw .stopped }
        try rest(ticket, until: nil)
    }

    private func stage(_ statistics: inout EpochStatistics) {
        let pages = collector.takeAll()
        statistics.stagedPages += pages.count
        for queue in pipeline.state.withLock({ $0.queues }) { queue.submit(.stage(pages)) }
    }

    // MARK: - While the guest stands still

    /// Stops the guest, takes what belongs to the checkpoint, and lets it go on.
    func stopGuest(_ statistics: inout EpochStatistics) throws(PipelineError) -> StoppedEpoch {
        while true {
            // In the stop nothing is allocated and no buffer touched for the first time.
            try makeRoom(planner.reserve, &statistics)
            let queues = pipeline.state.withLock { $0.queues }
            let requests = pipeline.state.withLock { state in takeRequests(&state) }
            let result: Result<StoppedEpoch?, PipelineError> = pipeline.guestIsPaused.withLock { isPaused in
                do throws(PipelineError) {
                    return .success(try stopWindow(&statistics, isPaused: isPaused, queues, requests))
                } catch { return .failure(error) }
            }
            switch result {
            case .success(let stopped?): return stopped
            case .success(nil): pipeline.state.withLock { $0.requests.insert(contentsOf: requests, at: 0) }
            case .failure(let error):
                for request in requests { request.continuation.resume(returning: .failure(error)) }
                throw error
            }
        }
    }

    /// All requests that this epoch can serve: those without a name, and the first name.
    private func takeRequests(_ state: inout EpochPipeline.State) -> [EpochPipeline.Request] {
        let possible = state.servableRequests
        let name = possible.lazy.compactMap(\.name).first
        let taken = possible.filter { $0.name == nil || $0.name == name }
        let identifiers = Set(taken.map(\.identifier))
        state.requests.removeAll { identifiers.contains($0.identifier) }
        return taken
    }

    /// Nil when the guest had written more than there is room for; it runs again, and another round is needed.
    private func stopWindow(
        _ statistics: inout EpochStatistics, isPaused: Bool, _ queues: [BackendQueue], _ requests: [EpochPipeline.Request]
    ) throws(PipelineError) -> StoppedEpoch? {
        // A base that is complete now, before the stop, holds no page newer than the epoch.
        let ready = queues.filter(\.isReady)
        // Asked once only: a base completed in between would miss this epoch's pages.
        let filling = queues.filter { queue in !ready.contains { $0 === queue } }
        let number = pipeline.lastEpoch.next
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
        guard try copyLast(&statistics) else { return nil }
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
            requests: requests, ready: ready, filling: filling)
    }

    /// The pages written since the last round; false when there was no room for all.
    private func copyLast(_ statistics: inout EpochStatistics) throws(PipelineError) -> Bool {
        do throws(MachineError) { try machine.harvestDirtyPages() } catch { throw .machine(error) }
        var isComplete = true
        var count = 0
        machine.memory.drainDirtyPages { page in
            count += 1
            if !collector.copy(page: page) {
                isComplete = false
                machine.memory.markDirty(page: page)
            }
        }
        statistics.pagesInStop = count
        return isComplete
    }

    // MARK: - When the guest runs again

    /// Collects the volumes' pages and hands the epoch over.
    func finish(_ stop: StoppedEpoch, _ statistics: inout EpochStatistics) throws(PipelineError) {
        statistics.pages = collector.batch.count
        // The vCPU's own word is better than this thread's, which may have had to wait for a processor.
        let running = machine.runningSince
        if running > stop.released { statistics.resume = running - stop.released }
        for participant in pipeline.configuration.participants { try collect(participant, stop, &statistics) }
        let epoch = Epoch(
            number: stop.number, name: stop.requests.lazy.compactMap(\.name).first, wallClock: stop.wallClock,
            monotonicClock: stop.monotonicClock, state: stop.state, pages: collector.takeAll(), statistics: statistics)
        let recorded = statistics
        pipeline.state.withLock { state in
            state.last = stop.number
            state.history.append(recorded)
            for request in stop.requests {
                let backends = stop.ready.map(\.backend.name).filter { request.backend == nil || request.backend == $0 }
                if backends.isEmpty {
                    // The backend asked for has no base yet: a later epoch is the first that serves.
                    state.requests.append(request)
                } else {
                    state.waiters.append(
                        EpochPipeline.Waiter(epoch: stop.number, backends: Set(backends), continuation: request.continuation))
                }
            }
        }
        for queue in stop.ready {
            queue.submit(.write(epoch))
            // It may have failed before those who wait for this epoch were noted down.
            if let refusal = queue.refusal { pipeline.settle(queue.backend.name, .failure(.backend(refusal))) }
        }
        for queue in stop.filling { queue.submit(.stage(epoch.pages)) }
    }

    private func collect(
        _ participant: any EpochParticipant, _ stop: StoppedEpoch, _ statistics: inout EpochStatistics
    ) throws(PipelineError) {
        var staged = EpochStatistics()
        let sink = BatchSink(collector.batch, map: participant.map) { () throws(PipelineError) in
            try self.makeRoom(PagePool.chunkPages, &staged)
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
