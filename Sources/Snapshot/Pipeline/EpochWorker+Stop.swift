internal import AuroraVMM
import Synchronization

/// What a stop yields.
struct StoppedEpoch {
    let number: EpochNumber
    /// The name that somebody asked for.
    let name: String?
    /// The backends that the epoch goes to; all others only collect its pages.
    let ready: [BackendQueue]
    let state: MachineState
    /// When it was asked for, when nothing changed the guest any more, when its state was there.
    let asked: Int64
    let paused: Int64
    let saved: Int64
    /// Buffers that the batch had in use before, and that the stop took.
    let usedBefore: Int
    var buffers = 0
    /// Nanoseconds since 1970.
    var wallClock: Int64 = 0
    /// When the guest was let go on.
    var released: Int64 = 0
    /// Until when it stands still for buffers, if it has to.
    var deadline: Int64 = 0
}

/// While the guest stands still.
extension EpochWorker {
    /// After so many stops in vain the guest stands still while parts of the epoch go to the backends, or an epoch larger than the
    /// pool would never end.
    private static let vainStopsMax = 4
    /// It stands still no longer without any buffer coming back: nanoseconds.
    private static let partMax: Int64 = 2_000_000_000

    /// In the stop nothing is allocated and no buffer touched for the first time.
    func prepareStop() throws(PipelineError) -> NextStep {
        if case .later(let ticket) = try makeRoom(reserve(vainStops: epoch.statistics.vainStops)) { return rest(ticket, .waitsForBuffers) }
        collector.batch.reserveEntries(planner.entries)
        phase = .stops
        return .atOnce
    }

    /// Stops the guest, takes what belongs to the checkpoint, and lets it go on.
    func stopGuest() throws(PipelineError) -> NextStep {
        pipeline.note(.stops)
        let (number, name, queues) = pipeline.state.withLock { state in
            let number = state.last.next
            return (number, state.ledger.take(for: number, ready: state.readyKeys), state.queues)
        }
        // A base that is complete now, before the stop, holds no page newer than the epoch.
        let ready = queues.filter(\.isReady)
        let asked = now
        let resting = try bringToRest()
        let paused = now
        if let end = machine.end { throw .ended(end) }
        let state: MachineState
        do throws(MachineError) { state = try resting.save() } catch {
            // A machine that is being stopped is not at rest, and its end is told a moment later.
            throw machine.isPaused ? .machine(error) : .ended(machine.end ?? .stopped)
        }
        // It stands still until this is nil again.
        standing = consume resting
        epoch.stop = StoppedEpoch(
            number: number, name: name, ready: ready, state: state, asked: asked, paused: paused, saved: now,
            usedBefore: collector.batch.used)
        do throws(MachineError) { try machine.harvestDirtyPages() } catch { throw .machine(error) }
        if copyRound() == .all {
            endStop()
        } else if epoch.statistics.vainStops >= EpochWorker.vainStopsMax {
            epoch.stop?.deadline = now + EpochWorker.partMax
            phase = .standsStill
        } else {
            stoppedInVain()
        }
        return .atOnce
    }

    private func bringToRest() throws(PipelineError) -> any CheckpointRest & ~Copyable {
        do throws(MachineError) { return try machine.restForStop() } catch { throw .ended(machine.end ?? .stopped) }
    }

    /// The guest had written more than there is room for; it runs again, and another round is needed.
    private func stoppedInVain() {
        standing = nil
        // Taken anew by the next stop, with those that come until then.
        pipeline.state.withLock { $0.ledger.putBack() }
        epoch.stop = nil
        epoch.round = nil
        epoch.statistics.vainStops += 1
        phase = .copies
        pipeline.note(.copies)
    }

    /// Hands over a part of the epoch and copies more of it, as long as buffers come back.
    func copyWhileStanding() -> NextStep {
        while true {
            let ticket = pipeline.wake.ticket
            if collector.batch.reserve(PagePool.chunkPages) { break }
            let step = RoomStep(situation)
            if step == .handOver {
                stage()
            } else if step == .wait, let deadline = epoch.stop?.deadline, now < deadline, !isStopping {
                return .wait(ticket, until: deadline)
            } else {
                stoppedInVain()
                return .atOnce
            }
        }
        if copyRound() == .all { endStop() } else { epoch.stop?.deadline = now + EpochWorker.partMax }
        return .atOnce
    }

    /// Everything of memory is copied.
    private func endStop() {
        guard var stop = epoch.stop else { return }
        let copied = now
        for participant in pipeline.configuration.participants { participant.freeze(stop.number) }
        let frozen = now
        pipeline.configuration.inspectStop?(stop.number)
        let inspected = pipeline.configuration.inspectStop == nil ? frozen : now
        standing = nil
        let resumed = now
        epoch.statistics.pause = stop.paused - stop.asked
        epoch.statistics.state = stop.saved - stop.paused
        epoch.statistics.copy = copied - stop.saved
        epoch.statistics.volumes = frozen - copied
        epoch.statistics.resume = resumed - inspected
        epoch.statistics.pagesInStop = epoch.round?.copied ?? 0
        epoch.statistics.pages = collector.batch.count
        stop.buffers = max(0, collector.batch.used - stop.usedBefore)
        stop.wallClock = pipeline.scheduler.wallClock - (resumed - stop.paused)
        stop.released = inspected
        epoch.stop = stop
        epoch.round = nil
        noteStop(at: stop.paused)
        phase = .reads
    }
}
