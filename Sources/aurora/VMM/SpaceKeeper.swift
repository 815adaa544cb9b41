import CLinux
import Groups
import Linux
import Store
import Synchronization

/// Keeps what a group's history takes within bounds: collects when enough was written, and drops the oldest checkpoints under pressure.
///
/// The bounds are those of `SpaceBudget`. What may be written until the next collection is kept free, so that they hold at any time.
final class SpaceKeeper: Sendable {
    /// After so many bytes a collection may pay, at most and at least.
    private static let collectEveryMax: UInt64 = 512 << 20
    private static let collectEveryMin: UInt64 = 32 << 20
    /// A collection for each so many of the bytes there is room for.
    private static let collectionsPerRoom: UInt64 = 16
    /// Where nothing can be freed: milliseconds until the next try, at least and at most.
    private static let pauseMin: UInt64 = 100
    private static let pauseMax: UInt64 = 5000

    private struct State {
        var collectAtBytes: UInt64
        var isCollecting = false
        /// Why checkpoints wait for room; nil when they do not.
        var problem: String?
        /// Milliseconds to wait when nothing can be freed.
        var pause = SpaceKeeper.pauseMin
        var hasGivenUp = false
        /// Bytes in use after the collections since a checkpoint found no room, at least.
        var leastUsed = UInt64.max
    }
    private let access: StoreAccess
    private let writer: StreamWriter
    private let warn: @Sendable (String) -> Void
    /// The history's own bound in bytes, and whether the store's applies, too.
    private let historyBytes: UInt64?
    private let yieldsToStore: Bool
    private let collectEveryBytes: UInt64
    private let state: Mutex<State>

    init(
        _ access: StoreAccess, _ writer: StreamWriter, _ settings: PersistenceSettings?, warn: @escaping @Sendable (String) -> Void
    ) {
        self.access = access
        self.writer = writer
        self.warn = warn
        historyBytes = settings?.historyBytes.map { UInt64(clamping: $0) }
        yieldsToStore = settings?.history != .all
        let room = min(historyBytes ?? .max, StoreRoom(access).limitBytes)
        collectEveryBytes = min(Self.collectEveryMax, max(Self.collectEveryMin, room / Self.collectionsPerRoom))
        // Counted from a random point, so that processes that live too short to write that much collect as often in total.
        state = Mutex(State(collectAtBytes: UInt64.random(in: 0..<collectEveryBytes)))
    }

    /// Begins a collection in the background when enough was written since the last.
    func look(writtenBytes: UInt64) {
        let begins = state.withLock { state in
            guard !state.isCollecting, writtenBytes >= state.collectAtBytes else { return false }
            state.isCollecting = true
            state.collectAtBytes = writtenBytes &+ collectEveryBytes
            return true
        }
        guard begins else { return }
        let thread: Void? = try? DetachedThread.start("collector") { @Sendable [self] in
            _ = collect(isFull: false)
            state.withLock { $0.isCollecting = false }
        }
        if thread == nil { state.withLock { $0.isCollecting = false } }
    }

    /// Why checkpoints wait for room; nil when they do not.
    var problem: String? { state.withLock { $0.problem } }

    /// Nobody waits for room any more: the group ends, or lets the store go.
    func giveUp() { state.withLock { $0.hasGivenUp = true } }

    /// An epoch is durable: there was room for it.
    func foundRoom() {
        let hadProblem = state.withLock { state in
            defer { (state.problem, state.pause, state.leastUsed) = (nil, Self.pauseMin, .max) }
            return state.problem != nil
        }
        if hadProblem { warn("There is room in the store again; checkpoints go on") }
    }

    /// Frees what can be freed, old checkpoints included, or else waits a moment for others to make room.
    ///
    /// - Returns: false when nobody waits any more. Otherwise it is worth a try.
    func makeRoom(_ error: StoreError) -> Bool {
        if state.withLock({ $0.hasGivenUp }) { return false }
        EngineMessage.write("No room for a checkpoint: \(error)")
        do throws(StoreError) { try writer.yieldSpace() } catch { EngineMessage.write("Cannot give space back: \(error)") }
        if let statistics = collect(isFull: true), hasGained(statistics) { return true }
        let isNew = state.withLock { state in
            defer { state.problem = "\(error)" }
            return state.problem == nil
        }
        if isNew {
            warn("There is no room in the store \(access.path): the group runs on, its next checkpoint waits. \(error)")
        }
        let pause = state.withLock { state in
            defer { state.pause = min(state.pause * 2, Self.pauseMax) }
            return state.pause
        }
        for _ in 0..<(pause / Self.pauseMin) where !state.withLock({ $0.hasGivenUp }) { usleep(UInt32(Self.pauseMin * 1000)) }
        return !state.withLock { $0.hasGivenUp }
    }

    /// Whether a collection made more room than there was at the last try.
    ///
    /// What was freed does not tell: it may be no more than what that try itself had written before it failed.
    private func hasGained(_ statistics: CollectionStatistics) -> Bool {
        state.withLock { state in
            defer { state.leastUsed = min(state.leastUsed, statistics.usedBytes) }
            return statistics.blocksFreed > 0 && statistics.usedBytes < state.leastUsed
        }
    }

    /// What a collection did; nil also when another process is at it.
    private func collect(isFull: Bool) -> CollectionStatistics? {
        var budget = SpaceBudget(storeBytes: yieldsToStore ? StoreRoom(access).limitBytes : nil, historyBytes: historyBytes)
            .reserving(2 * collectEveryBytes)
        // Full before its time: others have filled the disk. A quarter of what is there has to go.
        if isFull, let limit = budget.storeBytes { budget.storeBytes = min(limit, StoreRoom.takenBytes(access) / 4 * 3) }
        do throws(StoreError) { return tell(try access.store.collect(within: budget, thinning: writer)) } catch .busy(_, let reason) {
            if isFull { EngineMessage.write("Cannot collect: \(reason)") }
            return nil
        } catch  where error.isNoRoom && isFull {
            return dropAll()
        } catch {
            EngineMessage.write("Cannot collect: \(error)")
            return nil
        }
    }

    /// Warns once of streams that a collection could not read: what they may need is kept.
    private func tell(_ statistics: CollectionStatistics) -> CollectionStatistics {
        for stream in statistics.unreadable {
            warn("\(stream.name) in the store \(access.path) cannot be read, and keeps what it may need from being freed: \(stream.reason)")
        }
        return statistics
    }

    /// The last resort where not even the list of the checkpoints that stay has room: only the newest and those with names stay.
    private func dropAll() -> CollectionStatistics? {
        guard yieldsToStore || historyBytes != nil else { return nil }
        do throws(StoreError) {
            try writer.drop(olderThan: writer.lastNumber)
            return try access.store.collect()
        } catch {
            EngineMessage.write("Cannot drop checkpoints: \(error)")
            return nil
        }
    }
}

/// How much a store may take: half of what the file system has, or seven eighths of a device.
///
/// The file's own limit counts, too.
struct StoreRoom {
    let limitBytes: UInt64

    init(_ access: StoreAccess) {
        let size = access.disk.byteCount - access.disk.byteCount / 8
        let free = clinux_free_bytes(access.path)
        guard !access.disk.isBlockDevice, free >= 0 else {
            limitBytes = size
            return
        }
        limitBytes = min(size, (Self.takenBytes(access) &+ UInt64(clamping: free)) / 2)
    }

    /// What a store takes now, as its file system says; of a device all.
    static func takenBytes(_ access: StoreAccess) -> UInt64 {
        SmallFile.allocatedBytes(access.path).map { UInt64(clamping: $0) } ?? access.disk.byteCount
    }
}
