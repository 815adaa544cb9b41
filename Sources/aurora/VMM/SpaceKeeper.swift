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
    /// Tries to make room for one epoch.
    private static let attemptsMax = 3

    private struct State {
        var collectAtBytes: UInt64
        var isCollecting = false
        var failedAttempts = 0
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

    /// Frees what can be freed, old checkpoints included; false when that was nothing.
    func makeRoom() -> Bool {
        let mayTry = state.withLock { state in
            state.failedAttempts += 1
            return state.failedAttempts <= SpaceKeeper.attemptsMax
        }
        guard mayTry else { return false }
        warn("The store is full; looking for space that no checkpoint needs")
        guard collect(isFull: true) > 0 else { return false }
        state.withLock { $0.failedAttempts = 0 }
        return true
    }

    /// Blocks that were freed; zero also when another process is at it.
    private func collect(isFull: Bool) -> UInt64 {
        var budget = SpaceBudget(storeBytes: yieldsToStore ? StoreRoom(access).limitBytes : nil, historyBytes: historyBytes)
            .reserving(2 * collectEveryBytes)
        // Full before its time: others have filled the disk. A quarter of what is there has to go.
        if isFull, let limit = budget.storeBytes { budget.storeBytes = min(limit, StoreRoom.takenBytes(access) / 4 * 3) }
        do throws(StoreError) { return try access.store.collect(within: budget, thinning: writer).blocksFreed } catch .busy {
            return 0
        } catch {
            EngineMessage.write("Cannot collect: \(error)")
            return 0
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
