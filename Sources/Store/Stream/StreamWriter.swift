internal import Linux
import Synchronization

/// The one writer of a stream: takes epochs in, and makes them durable.
///
/// Epochs are filled by one thread; another one may `flush` those that are closed meanwhile, so that several are in flight. After a failed
/// write or flush the writer is broken: everything throws until the stream is opened again, which goes on from what is really there.
///
/// A write that does not come back (a disk that no longer answers) keeps the others who use the writer for `turnNanoseconds`, and then
/// they are told: `StoreError.busy`. What the writer last knew can always be asked.
public final class StreamWriter: @unchecked Sendable {
    // Safety: `core` and `held` are only used by whoever has the `turn`.
    private let core: WriterCore
    private let turn = Turn()
    private var held: (any DiskLockHandle)?
    private let kept: KeptCheckpoints
    private let glance: Mutex<Glance>
    /// How long a call waits for another one: a batch of pages, or an epoch of the largest size on a slow disk.
    static let turnNanoseconds: Int64 = 60_000_000_000

    /// What others may know without waiting for the disk.
    private struct Glance {
        var name: String
        var lastNumber: UInt64
        var durableNumber: UInt64
        var isBroken: Bool

        init(_ core: WriterCore) {
            name = core.record.name
            lastNumber = core.lastNumber
            durableNumber = core.durableNumber
            isBroken = core.broken != nil
        }
    }

    /// The stream.
    public let identity: StreamIdentity

    init(core: WriterCore, held: any DiskLockHandle) {
        self.core = core
        self.held = held
        identity = core.record.stream
        kept = core.kept
        glance = Mutex(Glance(core))
    }

    private func locked<Result>(_ body: (WriterCore) throws(StoreError) -> Result) throws(StoreError) -> Result {
        try turn.take(
            "another call of the stream's writer", withinNanoseconds: StreamWriter.turnNanoseconds,
            orThrow: { StoreError.busy(store: core.ground.disk.name, reason: "\($0): the disk may not answer") }
        ) { () throws(StoreError) in
            defer { glance.withLock { $0 = Glance(core) } }
            return try body(core)
        }
    }

    /// The stream's name.
    public var name: String { glance.withLock { $0.name } }
    /// The newest checkpoint, durable or not; 0 for none.
    ///
    /// An epoch's number must be greater.
    public var lastNumber: UInt64 { glance.withLock { $0.lastNumber } }
    /// The newest checkpoint that is known to be durable.
    public var durableNumber: UInt64 { glance.withLock { $0.durableNumber } }
    /// Whether a failure has made the writer useless.
    public var isBroken: Bool { glance.withLock { $0.isBroken } }

    // MARK: epochs

    /// Begins an epoch.
    ///
    /// - Parameter number: greater than `lastNumber`. Multiples of 8, 64, 512 … merge tables.
    /// - Throws: `StoreError`.
    public func begin(_ number: UInt64) throws(StoreError) { try locked { core throws(StoreError) in try core.begin(number) } }

    /// Gives the open epoch its number, for one that took pages before the number was known.
    ///
    /// - Parameter number: greater than `lastNumber`.
    /// - Throws: `StoreError`.
    public func renumber(_ number: UInt64) throws(StoreError) { try locked { core throws(StoreError) in try core.renumber(number) } }

    /// Takes changed pages into the open epoch: zero, unchanged and known ones cost nothing on the disk.
    ///
    /// Of a page given twice in an epoch the later counts.
    /// - Parameters:
    ///   - pages: in any order; in the order of their keys they are faster.
    ///   - retained: true when the bytes stay as they are until the epoch is closed or abandoned: then they are not copied.
    /// - Throws: `StoreError`; then the epoch can only be abandoned.
    public func add(_ pages: [PageInput], retained: Bool = false) throws(StoreError) {
        try locked { core throws(StoreError) in try core.add(pages, retained: retained) }
    }

    /// Writes the open epoch; it is durable after the next `flush`.
    ///
    /// - Parameters:
    ///   - state: anything, of any size.
    ///   - name: of the checkpoint, empty for none.
    ///   - time: nanoseconds since 1970.
    ///   - statistics: at most 120 bytes that the history lists.
    /// - Throws: `StoreError`; then the epoch can only be abandoned. Where `isNoRoom` says so and `isBroken` does not, the same epoch
    ///   may be given once more after room was made.
    @discardableResult
    public func close(
        state: UnsafeRawBufferPointer, name: String = "", time: UInt64, statistics: [UInt8] = []
    ) throws(StoreError) -> (checkpoint: CheckpointReference, statistics: EpochStatistics) {
        let closing = EpochClosing(state: state, name: name, time: time, statistics: statistics)
        return try locked { core throws(StoreError) in try core.close(closing) }
    }

    /// Throws the open epoch away, as if it had never begun.
    ///
    /// Where another call does not come back it stays open, and nothing of it becomes part of a checkpoint.
    public func abandon() { try? locked { core throws(StoreError) in core.abandon() } }

    /// Makes all epochs durable that are closed when it is called.
    ///
    /// - Parameter number: returns at once when this one is durable already.
    /// - Returns: the newest durable number.
    /// - Throws: `StoreError`; then nothing more is known to be durable than before, and the writer is broken.
    @discardableResult
    public func flush(upTo number: UInt64 = .max) throws(StoreError) -> UInt64 {
        let (target, flusher) = try locked { core throws(StoreError) in
            try core.checkUsable()
            return (number <= core.durableNumber ? nil : core.flushTarget, core.flusher)
        }
        guard let target else { return durableNumber }
        do throws(StoreError) { try flusher.settle() } catch {
            // The flusher stays failed: where another call does not come back nothing is called durable all the same.
            try? locked { core throws(StoreError) in core.fail(error) }
            throw error
        }
        return try locked { core throws(StoreError) in
            do throws(StoreError) { try core.flushed(target) } catch {
                // What was closed is durable all the same; the slot goes on referring to the anchor before.
                guard error.isNoRoom, core.broken == nil else { throw error }
            }
            return core.durableNumber
        }
    }

    /// Thinning passes over a checkpoint as long as this writer lives: a machine fetches its untouched pages through its tables.
    public func keep(_ number: UInt64) { kept.keep(number) }

    /// Thinning passes over a checkpoint until `letGo`: found and kept in one, so that nothing drops it in between.
    ///
    /// - Throws: `StoreError.noCheckpoint` when it has been dropped.
    public func hold(_ number: UInt64) throws(StoreError) { try locked { core throws(StoreError) in try core.hold(number) } }

    /// Takes one `hold` or `keep` of a checkpoint back.
    public func letGo(_ number: UInt64) { kept.letGo(number) }

    /// The next epoch continues an earlier checkpoint of this stream than the last.
    ///
    /// What came after it stays in the history, and a crash before that epoch is durable goes on from there: see `goBack`.
    ///
    /// - Throws: `StoreError` while an epoch is open, or when the checkpoint is not in the history any more.
    public func rebase(on checkpoint: CheckpointReader) throws(StoreError) {
        try locked { core throws(StoreError) in try core.rebase(on: checkpoint) }
    }

    /// Continues an earlier checkpoint of this stream: its contents are the newest checkpoint's, under a new number, and durable.
    ///
    /// Constant time: one block. What came after it stays in the history.
    ///
    /// - Parameters:
    ///   - time: nanoseconds since 1970.
    ///   - statistics: at most 120 bytes that the history lists.
    /// - Returns: the new checkpoint.
    /// - Throws: `StoreError` while an epoch is open, when the checkpoint is not in the history any more, or when it cannot be written:
    ///   then the stream goes on from where it was, or `isBroken` says that it does not go on.
    @discardableResult
    public func goBack(to checkpoint: CheckpointReader, time: UInt64, statistics: [UInt8] = []) throws(StoreError) -> CheckpointReference {
        let newest = try locked { core throws(StoreError) in try core.goBack(to: checkpoint, time: time, statistics: statistics) }
        try flush(upTo: newest.number)
        return newest
    }

    /// The checkpoint that the next epoch continues; nil for a stream without any.
    ///
    /// - Throws: `StoreError`.
    public func current(in store: Store) throws(StoreError) -> CheckpointReader? {
        let parent = try locked { core throws(StoreError) in core.parent }
        return parent.number == 0 ? nil : try store.checkpoint(parent)
    }

    // MARK: history

    /// All checkpoints, oldest first, also those not durable yet.
    ///
    /// - Throws: `StoreError`.
    public func history() throws(StoreError) -> [CheckpointEntry] {
        try locked { core throws(StoreError) in try core.history.all() }
    }

    /// Removes checkpoints from the history; the collector frees what only they needed.
    ///
    /// Durable when it returns.
    ///
    /// - Parameter force: named ones, too.
    /// - Throws: `StoreError`; `checkpointProtected` for the newest.
    public func drop(_ numbers: [UInt64], force: Bool = false) throws(StoreError) {
        try locked { core throws(StoreError) in try core.drop(numbers, force: force) }
    }

    /// Names a checkpoint, so that it is kept; an empty name takes it away.
    ///
    /// Durable when it returns.
    ///
    /// - Throws: `StoreError`.
    public func name(_ number: UInt64, _ name: String) throws(StoreError) {
        try locked { core throws(StoreError) in try core.setName(name, of: number) }
    }

    /// Drops what a policy does not keep, once.
    ///
    /// The policy in `options` is applied all the time. Durable when it returns.
    /// - Returns: how many were dropped.
    /// - Throws: `StoreError`.
    @discardableResult
    public func thin(_ policy: RetentionPolicy) throws(StoreError) -> UInt64 {
        try locked { core throws(StoreError) in
            let before = core.history.count
            let usual = core.options.retention
            core.options.retention = policy
            defer { core.options.retention = usual }
            try core.thin()
            try core.anchorNow()
            return before - min(before, core.history.count)
        }
    }

    /// Drops all checkpoints older than one, except for named ones and those that are still read through: where room is needed.
    ///
    /// Durable when it returns; the next collection frees what only they needed.
    /// - Returns: how many were dropped.
    /// - Throws: `StoreError`.
    @discardableResult
    public func drop(olderThan number: UInt64) throws(StoreError) -> Int {
        try locked { core throws(StoreError) in try core.drop(olderThan: number) }
    }

    /// Gives back space that was claimed ahead or is full, when room is needed: no collection frees what a writer holds.
    ///
    /// - Throws: `StoreError`, also while an epoch is open.
    public func yieldSpace() throws(StoreError) { try locked { core throws(StoreError) in try core.yieldSpace() } }

    /// Gives the stream another name.
    ///
    /// Durable when it returns.
    ///
    /// - Throws: `StoreError`.
    public func rename(to name: String) throws(StoreError) {
        try locked { core throws(StoreError) in
            try Store.check(name: name, of: "stream")
            let slots = try core.ground.disk.take(.slots)
            defer { withExtendedLifetime(slots) {} }
            if try core.ground.slots().contains(where: { $0.record.name == name && $0.index != core.slot }) { throw .streamExists(name) }
            core.record.name = name
            try core.anchorNow()
        }
    }

    /// Ends the writing in good order: the next opening has nothing to recover, and unused space is free at once.
    ///
    /// An epoch that is open is abandoned.
    /// - Throws: `StoreError`; the writer is useless all the same.
    public func finish() throws(StoreError) {
        try locked { core throws(StoreError) in
            core.abandon()
            if core.isFinished { return }
            defer {
                core.isFinished = true
                held = nil
            }
            if core.lastSequence > core.anchor.lastSequence || core.pendingAnchor != nil { try core.anchorNow() }
            try core.layout.close()
        }
    }
}
