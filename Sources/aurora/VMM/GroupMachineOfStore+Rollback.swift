import AuroraVMM
import Groups
import Linux
import Snapshot
import Store
import Synchronization

/// Going back in place: only what differs is replaced.
extension GroupMachineOfStore {
    /// A checkpoint that the machine can stand on: read as far as needed, and kept from retention.
    private struct Standing {
        let reader: CheckpointReader
        let saved: MachineState
        let context: GroupContext
        var number: UInt64 { reader.number }
    }

    /// A machine that was overwritten in part: it cannot run any more.
    private struct Overwritten: Error {
        let cause: MachineError
    }

    func rollback(to choice: CheckpointChoice, atStandstill: () -> Void) throws -> GroupContext {
        try inOrder("a rollback") {
            guard let (pipeline, history) = state.withLock({ state in state.pipeline.flatMap { one in state.history.map { (one, $0) } } })
            else {
                throw GroupError(
                    .notRunning, "The group has no history in the store to go back to",
                    remedy: "Checkpoint it to the store: aurora attach GROUP --backend store")
            }
            if let failure = pipeline.backends.lazy.compactMap(\.failure).first {
                throw GroupError(
                    .host, "\(failure)", remedy: "When the cause is removed: aurora detach, then aurora attach, and roll back then.")
            }
            // Found and kept before anything is changed: what cannot be had leaves the group as it is.
            let target = try hold(choice, history)
            let last: Standing
            let resting = try rest(orLetGoOf: target, history)
            do { last = try closeHistory(pipeline, history) } catch {
                history.writer.letGo(target.number)
                throw error
            }
            let left = pipeline.stop()
            // Who comes back later must not meet another's machine.
            guard left.isEmpty else { throw loss("It cannot be put back: \(left.joined(separator: "; ")), and did not come back") }
            return try stand(on: target, orOn: last, history, resting, atStandstill)
        }
    }

    // MARK: - Before anything is changed

    /// How often a checkpoint that is no fixed one is looked for anew, when it was dropped before it could be kept.
    private static let choicesMax = 20

    private func hold(_ choice: CheckpointChoice, _ history: StoreHistory) throws -> Standing {
        for attempt in 1... {
            let address = try history.access.resolve(environment.streamName, choice)
            do throws(StoreError) { try history.writer.hold(address.number) } catch {
                guard case .noCheckpoint = error, !choice.isFixed, attempt < GroupMachineOfStore.choicesMax else { throw error }
                continue
            }
            do { return try read(address, history) } catch {
                history.writer.letGo(address.number)
                throw error
            }
        }
        throw GroupError(.host, "No checkpoint could be kept")
    }

    /// The guest stands still from the last checkpoint on, until it is on another one.
    private func rest(orLetGoOf target: Standing, _ history: StoreHistory) throws -> RestingMachine {
        do throws(MachineError) { return try machine.rest() } catch {
            history.writer.letGo(target.number)
            throw GroupError(.host, "\(error)")
        }
    }

    private func read(_ address: CheckpointAddress, _ history: StoreHistory) throws -> Standing {
        let reader = try history.access.reader(address)
        let envelope = try history.access.envelope(reader)
        let saved = try MachineState(encoded: Array(envelope.machine))
        try machine.check(saved)
        return Standing(reader: reader, saved: saved, context: envelope.context)
    }

    /// A last checkpoint in the store, so that what differs from the target is known; where all else fails the group goes on from it.
    ///
    /// Also for a backend that was attached a moment ago and has no whole checkpoint yet, and for pages that were on their way.
    private func closeHistory(_ pipeline: EpochPipeline, _ history: StoreHistory) throws -> Standing {
        pipeline.setCheckpointsPaused(true)
        do { return try hold(.number(try take(pipeline, nil).number), history) } catch {
            applyPeriod(pipeline)
            throw error
        }
    }

    // MARK: - The change

    /// Puts the machine on a checkpoint, or back on the last one where that fails; the guest goes on.
    private func stand(
        on target: Standing, orOn last: Standing, _ history: StoreHistory, _ resting: borrowing RestingMachine, _ atStandstill: () -> Void
    ) throws -> GroupContext {
        var pages: Set<Int> = []
        do {
            try put(on: target, after: last, history, resting, &pages)
            release([last.number], keeping: target.number, history)
            atStandstill()
            return target.context
        } catch let error as Overwritten {
            throw loss("It could not be put back to checkpoint \(target.number): \(error.cause)")
        } catch {
            do {
                try put(on: last, after: last, history, resting, &pages)
                release([target.number], keeping: last.number, history)
                atStandstill()
            } catch let second {
                throw loss("It could be put neither to checkpoint \(target.number) (\(error)) nor back to \(last.number) (\(second))")
            }
            throw GroupError(.host, "The group goes on where it was: it could not be put back to checkpoint \(target.number): \(error)")
        }
    }

    /// Ends the group at once, as it can go on neither here nor there; whoever asked and whoever looks at it later hear the reason.
    private func loss(_ reason: String) -> GroupError {
        end(because: reason)
        return GroupError(
            .host, "The group was ended. \(reason)",
            remedy: "Go on from its last checkpoint with: aurora restore \(environment.configuration.name)")
    }

    /// Puts memory, disks and machine on a checkpoint, makes that lasting, and begins a pipeline; the guest stands still yet.
    ///
    /// - Parameter pages: pages of memory that may be another checkpoint's, from an attempt before this one.
    private func put(
        on point: Standing, after last: Standing, _ history: StoreHistory, _ resting: borrowing RestingMachine, _ pages: inout Set<Int>
    ) throws {
        try replace(point, after: last, resting, &pages)
        if try history.writer.current(in: history.access.store)?.number != point.number { try history.goBack(to: point.reader) }
        let next = history.again(self)
        let fresh = try makePipeline(after: next.writer.lastNumber)
        do throws(PipelineError) { try fresh.attach(next.backend, base: EpochNumber(next.writer.lastNumber)) } catch {
            fresh.stop()
            throw GroupError(.host, "\(error)")
        }
        let hadMemory = state.withLock { state in
            defer { (state.history, state.memory, state.hasBegun) = (next, nil, false) }
            return state.memory != nil
        }
        if hadMemory { try attachMemory(fresh) }
    }

    /// From now on the disks read what was not written since from another checkpoint than before.
    private func release(_ numbers: [UInt64], keeping number: UInt64, _ history: StoreHistory) {
        let former = state.withLock { state in
            defer { state.standsOn = number }
            return state.standsOn
        }
        for number in numbers + (former.map { [$0] } ?? []) { history.writer.letGo(number) }
    }

    private func attachMemory(_ pipeline: EpochPipeline) throws {
        let memory = MemoryBackend()
        do throws(PipelineError) { try pipeline.attach(memory) } catch { throw GroupError(.host, "\(error)") }
        state.withLock { $0.memory = memory }
    }

    /// Puts memory, machine and disks back.
    private func replace(
        _ point: Standing, after last: Standing, _ resting: borrowing RestingMachine, _ pages: inout Set<Int>
    ) throws {
        pages.formUnion(try point.reader.differences(from: last.reader).filter { $0.map == 0 }.compactMap { Int(exactly: $0.page) })
        if !machine.tracksWrites { try machine.setTracksWrites(true) }
        try machine.harvestDirtyPages()
        var dirty: Set<Int> = []
        machine.memory.drainDirtyPages { dirty.insert($0) }
        pages.formUnion(dirty)
        do throws(MachineError) {
            try resting.load(point.saved, replacing: pages.sorted(), from: CheckpointPages(point.reader, map: 0))
        } catch {
            // What could not be read is another checkpoint's: this one's takes its place.
            if case .memory = error { throw error }
            throw Overwritten(cause: error)
        }
        for disk in disks.volumes {
            let blocks = Int(disk.volume.byteCount) / CheckpointedVolume.blockBytes
            try disk.volume.reset(to: CheckpointPages(point.reader, map: disk.map), baseBlocks: blocks)
        }
    }
}

extension CheckpointChoice {
    /// Whether it means the same checkpoint at any time.
    var isFixed: Bool {
        switch self {
        case .number, .name: true
        case .latest, .time: false
        }
    }
}
