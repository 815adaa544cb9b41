internal import AuroraVMM
import Synchronization

/// While the guest runs: what it has written is copied ahead of the stop.
extension EpochWorker {
    /// Copies what was written so far, once or a few times, and once more after a stop in vain.
    func copyWhileRunning() throws(PipelineError) -> NextStep {
        if epoch.round == nil {
            do throws(MachineError) { try machine.harvestDirtyPages() } catch { throw .machine(error) }
            epoch.round = OpenEpoch.Round()
        }
        if copyRound() == .refused {
            switch try makeRoom(PagePool.chunkPages) {
            case .found: return .atOnce
            case .later(let ticket): return rest(ticket, .waitsForBuffers)
            // The rest is copied in the stop, or in the next round.
            case .none: break
            }
        }
        let copied = epoch.round?.copied ?? 0
        epoch.round = nil
        endRound(copied)
        return .atOnce
    }

    private func endRound(_ copied: Int) {
        phase = .prepares
        guard epoch.statistics.vainStops == 0 else { return }
        epoch.statistics.rounds += 1
        if planner.isWorthAnother(rounds: epoch.statistics.rounds, copied: copied, before: epoch.copiedBefore) {
            phase = .copies
            epoch.copiedBefore = copied
        } else {
            epoch.statistics.preCopy = now - epoch.begin
        }
    }

    enum Copied {
        case all
        /// A page found no buffer; it and those after it count as written still.
        case refused
    }

    /// Copies from where the round stopped.
    func copyRound() -> Copied {
        var (page, copied) = (epoch.round?.page ?? 0, 0)
        let refused = machine.memory.drainDirtyPages(from: page) { page in
            guard collector.copy(page: page) else { return false }
            copied += 1
            return true
        }
        page = refused ?? page
        epoch.round = OpenEpoch.Round(page: page, copied: (epoch.round?.copied ?? 0) + copied)
        return refused == nil ? .all : .refused
    }

    // MARK: - Buffers

    enum Room {
        case found
        /// What the pool can give is there.
        case none
        /// To be asked for again when there was a signal since the ticket.
        case later(UInt32)
    }

    /// Makes sure that there are buffers for more pages, or as many as there can be; hands over what is there, where it must.
    ///
    /// - Throws: `PipelineError.noBackend` when nobody takes the epoch any more, `.stopped`.
    func makeRoom(_ pages: Int) throws(PipelineError) -> Room {
        while true {
            let ticket = pipeline.wake.ticket
            if collector.batch.reserve(pages) { break }
            switch RoomStep(situation) {
            case .handOver: stage()
            case .goOn: return .none
            case .wait:
                if isStopping { throw .stopped }
                return .later(ticket)
            case .abandon: throw isStopping ? .stopped : .noBackend(nil)
            }
        }
        // An epoch that takes much of the pool goes ahead in parts.
        if collector.batch.chunksUsed > pool.usableChunks / 4 { stage() }
        return .found
    }

    var situation: RoomStep.Situation {
        RoomStep.Situation(
            used: collector.batch.chunksUsed, leased: collector.batch.chunksLeased, free: pool.freeChunks, total: pool.usableChunks,
            hasTakers: pipeline.state.withLock { !$0.queues.isEmpty })
    }

    /// Buffers that a stop should find.
    func reserve(vainStops: Int) -> Int { planner.reserve(pool: pool.usableChunks * PagePool.chunkPages, vainStops: vainStops) }

    /// Hands over what was copied as a part of the epoch.
    func stage() {
        let pages = collector.takeAll()
        epoch.statistics.stagedPages += pages.count
        // Who takes nothing any more needs none of it.
        for queue in pipeline.state.withLock({ $0.queues }) { _ = queue.submit(.stage(pages)) }
    }
}
