import Synchronization

/// When the guest runs again: the volumes' pages are read, and the epoch goes to the backends.
extension EpochWorker {
    /// Reads some of what changed on one volume.
    func readVolumes() throws(PipelineError) -> NextStep {
        let participants = pipeline.configuration.participants
        guard let stop = epoch.stop else { return .atOnce }
        if epoch.participant == 0, epoch.position == 0 { noteResumption(stop) }
        guard epoch.participant < participants.count else {
            phase = .handsOver
            return .atOnce
        }
        let participant = participants[epoch.participant]
        pipeline.note(.reads(participant.map))
        var batch: PageBatch? = collector.batch
        do throws(PipelineError) {
            if case .later(let ticket) = try makeRoom(PagePool.chunkPages) { return rest(ticket, .waitsForBuffers) }
        } catch {
            // The rest is read out all the same, or the disk would keep it for ever.
            guard case .noBackend = error else { throw error }
            batch = nil
        }
        let sink = BatchSink(batch, map: participant.map)
        do {
            let next = try participant.collect(stop.number, from: epoch.position, pagesMax: batch?.room ?? .max, into: sink)
            epoch.position = next ?? 0
            if next == nil { epoch.participant += 1 }
        } catch let error as PipelineError {
            throw error
        } catch { throw .volume(participant.map, "\(error)") }
        epoch.statistics.volumePages += sink.count
        return .atOnce
    }

    /// The vCPU's own word is better than this thread's, which may have had to wait for a processor.
    private func noteResumption(_ stop: StoppedEpoch) {
        let running = machine.runningSince
        if running > stop.released { epoch.statistics.resume = running - stop.released }
    }

    /// Closes the epoch.
    func handOver() -> NextStep {
        guard let stop = epoch.stop else { return .atOnce }
        let closed = Epoch(
            number: stop.number, name: stop.name, wallClock: stop.wallClock,
            monotonicClock: stop.paused, state: stop.state, pages: collector.takeAll(), statistics: epoch.statistics)
        pipeline.deliver(
            pipeline.state.withLock { state in
                // A backend with a longer history may have come meanwhile.
                state.last = max(state.last, stop.number)
                state.history.append(closed.statistics)
                return state.ledger.handOver(stop.number, to: Set(stop.ready.map(\.key)), attached: Set(state.queues.map(\.key)))
            })
        for queue in stop.ready {
            let isAccepted = queue.submit(.write(closed))
            // It may have failed before those who wait for this epoch were noted down; one that is being detached answers them itself.
            if !isAccepted, let refusal = queue.refusal { pipeline.settle(queue.key, .backend(refusal)) }
        }
        // One that came after `ready` was asked may have scanned a page before the guest wrote it and came to rest; one that came later
        // still has newer contents, which the next epoch brings again.
        let filling = pipeline.state.withLock { $0.queues }.filter { queue in !stop.ready.contains { $0 === queue } }
        for queue in filling where !closed.pages.isEmpty { _ = queue.submit(.stage(closed.pages)) }
        close()
        return .atOnce
    }
}
