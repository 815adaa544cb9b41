import AuroraVMM
import Groups
import Linux
import Snapshot
import Store
import Synchronization

/// Going back in place: only what differs is replaced.
extension GroupMachineOfStore {
    func rollback(to choice: CheckpointChoice) throws -> GroupContext {
        try order.withLock { _ in
            guard let (pipeline, history) = state.withLock({ state in state.pipeline.flatMap { one in state.history.map { (one, $0) } } })
            else {
                throw GroupError(
                    .notRunning, "The group has no history in the store to go back to",
                    remedy: "Checkpoint it to the store: aurora attach GROUP --backend store")
            }
            // Found before anything is changed: what cannot be had leaves the group as it is.
            let address = try history.access.resolve(environment.streamName, choice)
            let reader = try history.access.reader(address)
            let envelope = try history.access.envelope(reader)
            let saved = try MachineState(encoded: Array(envelope.machine))
            try machine.check(saved)
            if let failure = pipeline.backends.lazy.compactMap(\.failure).first {
                throw GroupError(
                    .host, "\(failure)", remedy: "When the cause is removed: aurora detach, then aurora attach, and roll back then.")
            }
            pipeline.setCheckpointsPaused(true)
            pipeline.pauseGuest()
            try closeHistory(pipeline)
            pipeline.stop()
            do {
                try replace(reader, saved, history)
            } catch {
                machine.stop()
                throw error
            }
            let next = try history.rolledBack(to: reader, self)
            let former = state.withLock { $0.memory }
            let fresh = try makePipeline(after: next.writer.lastNumber)
            do throws(PipelineError) { try fresh.attach(next.backend, base: EpochNumber(reader.number)) } catch {
                throw GroupError(.host, "\(error)")
            }
            state.withLock { state in
                state.history = next
                state.memory = nil
                state.hasBegun = false
            }
            if former != nil { try attachMemory(fresh) }
            fresh.resumeGuest()
            return envelope.context
        }
    }

    /// A last checkpoint in the store, so that what differs from the target is known: also for a backend that was attached a moment
    /// ago and has no whole checkpoint yet, and for pages that were on their way.
    private func closeHistory(_ pipeline: EpochPipeline) throws {
        do { _ = try take(pipeline, nil) } catch {
            pipeline.resumeGuest()
            applyPeriod(pipeline)
            throw error
        }
    }

    private func attachMemory(_ pipeline: EpochPipeline) throws {
        let memory = MemoryBackend()
        do throws(PipelineError) { try pipeline.attach(memory) } catch { throw GroupError(.host, "\(error)") }
        state.withLock { $0.memory = memory }
    }

    /// Puts memory, machine and disks back.
    private func replace(_ reader: CheckpointReader, _ saved: MachineState, _ history: StoreHistory) throws {
        var pages = try changedPages(since: reader, history)
        if !machine.tracksWrites { try machine.setTracksWrites(true) }
        try machine.harvestDirtyPages()
        machine.memory.drainDirtyPages { pages.insert($0) }
        try machine.load(saved, replacing: pages.sorted(), from: CheckpointPages(reader, map: 0))
        for disk in disks.volumes {
            let blocks = Int(disk.volume.byteCount) / CheckpointedVolume.blockBytes
            try disk.volume.reset(to: CheckpointPages(reader, map: disk.map), baseBlocks: blocks)
        }
    }

    /// Pages of memory that differ between a checkpoint and the last one of the line the group is on.
    private func changedPages(since reader: CheckpointReader, _ history: StoreHistory) throws -> Set<Int> {
        let last = try history.writer.current(in: history.access.store) ?? reader
        return Set(try reader.differences(from: last).filter { $0.map == 0 }.compactMap { Int(exactly: $0.page) })
    }
}
