internal import CLinux
internal import Linux
internal import NIOPosix
internal import Synchronization

/// Keeps asynchronous invocations: an append-only file of checksummed entries, made durable before an event is acknowledged.
///
/// Appends of many requests share one `fdatasync`. When most of the file is history, it is written anew with what is still of
/// use and renamed over. Reading stops at the first entry that is not whole: a crash can only have torn entries that were
/// never acknowledged; if more than a torn end was lost, the file is kept aside and the loss is reported.
final class EventLog: Sendable {
    private static let magic = Array("AURORAEVENTLOG01".utf8)
    /// A shorter log is never written anew.
    static let compactionBytesMin = 16 << 20
    static let fileBytesMax = 2 << 30

    private struct State {
        var events: [String: StoredEvent] = [:]
        /// Bytes of the entries of `events`, near enough.
        var liveBytes = 0
        var fileBytes = 0
        var pending: [(bytes: [UInt8], done: OnceResumption<SystemError?>?)] = []
        var isFlushing = false
        var descriptor: SharedDescriptor
        /// Why the file is not what `events` are: it has to be written anew; nil while all is well.
        var failure: SystemError?
        /// When that was tried last, by the monotonic clock.
        var triedAt: Int64 = 0
    }
    /// Nanoseconds between two tries to write the file anew.
    static let retryNanoseconds: Int64 = 1_000_000_000

    private let path: String
    private let state: Mutex<State>
    private let pool: NIOThreadPool
    private let disk: EventDisk
    /// What was found wrong with the file when it was opened; nil: nothing.
    let damage: String?

    /// Opens the log, made if need be.
    ///
    /// - Parameter pool: where the file is written; the caller starts and ends it.
    init(path: String, pool: NIOThreadPool, disk: EventDisk = EventDisk()) throws(SystemError) {
        self.path = path
        self.pool = pool
        self.disk = disk
        let bytes = try DurableFile.read(path, bytesMax: EventLog.fileBytesMax) ?? []
        let (events, end) = EventLog.read(bytes)
        var damage: String?
        if end < bytes.count {
            // What follows the torn place is looked through: a whole entry there was acknowledged once.
            let hasMore = EventLog.hasEntry(in: bytes[end...].prefix(1 << 20))
            if hasMore || end == 0 {
                let aside = "\(path).damaged-\(WallClock.milliseconds)"
                try systemCall("keep aside", path) { clinux_rename(path, aside) }
                damage = "\(path) was damaged at byte \(end) of \(bytes.count): entries after it are lost to the queue, see \(aside)."
            }
        }
        self.damage = damage
        let descriptor = try EventLog.rewrite(path, events.values, disk)
        state = Mutex(
            State(
                events: events, liveBytes: events.values.reduce(0) { $0 + EventLog.size($1) }, fileBytes: 0, descriptor: descriptor))
    }

    /// Every event that is not over, dead ones included.
    var events: [StoredEvent] { state.withLock { Array($0.events.values) } }
    /// One event.
    subscript(identifier: String) -> StoredEvent? { state.withLock { $0.events[identifier] } }
    /// Bytes of what is kept.
    var liveBytes: Int { state.withLock { $0.liveBytes } }
    /// Why nothing is acknowledged at the moment; nil: all is well.
    var failure: SystemError? { state.withLock { $0.failure } }

    /// Keeps an entry; returns when it is durable.
    func append(_ record: EventRecord) async throws(SystemError) {
        let error = await withCheckedContinuation { continuation in submit(record, OnceResumption(continuation)) }
        if let error { throw error }
    }

    /// Keeps an entry without waiting: should it be lost, the event is only delivered once more.
    func note(_ record: EventRecord) { submit(record, nil) }

    /// Tries again what failed, if it is time; called now and then, so that the log gets well without anybody asking for it.
    func retry() {
        let mustFlush = state.withLock { state in
            guard state.failure != nil, !state.isFlushing, EventLog.isTime(state, disk) else { return false }
            state.isFlushing = true
            return true
        }
        if mustFlush { pool.submit { [self] _ in flush() } }
    }

    private static func isTime(_ state: State, _ disk: EventDisk) -> Bool { disk.now() - state.triedAt >= retryNanoseconds }

    private func submit(_ record: EventRecord, _ done: OnceResumption<SystemError?>?) {
        let bytes = EventCodec.encode(record)
        let (mustFlush, failure) = state.withLock { state -> (Bool, SystemError?) in
            if let failure = state.failure, !EventLog.isTime(state, disk) {
                // It will be in the file that is written anew; but nobody is told that it is kept.
                if done == nil { EventLog.apply(record, &state) }
                return (false, failure)
            }
            EventLog.apply(record, &state)
            state.pending.append((bytes, done))
            defer { state.isFlushing = true }
            return (!state.isFlushing, nil)
        }
        if let failure { done?(failure) }
        if mustFlush { pool.submit { [self] _ in flush() } }
    }

    private static func apply(_ record: EventRecord, _ state: inout State) {
        switch record {
        case .event(let event):
            let before = state.events.updateValue(event, forKey: event.identifier)
            state.liveBytes += size(event) - (before.map(size) ?? 0)
        case .done(let identifier):
            if let before = state.events.removeValue(forKey: identifier) { state.liveBytes -= size(before) }
        }
    }

    private static func size(_ event: StoredEvent) -> Int { event.payload.count + (event.clientContext?.utf8.count ?? 0) + 256 }

    /// Writes what waits, until nothing does; one thread does it at a time.
    private func flush() {
        while true {
            let (batch, descriptor, isBroken) = state.withLock { state in
                defer { state.pending = [] }
                let isBroken = state.failure != nil && EventLog.isTime(state, disk)
                if state.pending.isEmpty, !isBroken { state.isFlushing = false }
                return (state.pending, state.descriptor, isBroken)
            }
            if batch.isEmpty, !isBroken { return }
            var failure: SystemError?
            do throws(SystemError) {
                if self.failure != nil { try writeAnew() } else { try write(batch.flatMap(\.bytes), descriptor) }
            } catch {
                // After a failed write nobody knows what the disk has: nothing is acknowledged until the log was written anew, with
                // what was over meanwhile left out.
                failure = error
                state.withLock { state in
                    state.failure = error
                    state.triedAt = disk.now()
                }
            }
            for entry in batch { entry.done?(failure) }
        }
    }

    private func write(_ bytes: [UInt8], _ descriptor: SharedDescriptor) throws(SystemError) {
        do throws(SystemError) {
            try disk.write(bytes, descriptor.rawValue, path)
            try systemCall("make durable", path) { clinux_fdatasync(descriptor.rawValue) }
        } catch {
            state.withLock { $0.failure = error }
            // One try at once: what stood in the way may have gone with what the failed write took.
            return try writeAnew()
        }
        let isWorthwhile = state.withLock { state in
            state.fileBytes += bytes.count
            return state.fileBytes > max(EventLog.compactionBytesMin, 4 * state.liveBytes)
        }
        if isWorthwhile { try writeAnew() }
    }

    /// Writes the whole log aside, and takes it.
    private func writeAnew() throws(SystemError) {
        // What is pending is in `events` already; it will be in the file twice, which does no harm.
        let descriptor = try EventLog.rewrite(path, events, disk)
        state.withLock { state in
            state.descriptor = descriptor
            state.fileBytes = 0
            state.failure = nil
        }
    }

    private static func rewrite(
        _ path: String, _ events: some Sequence<StoredEvent>, _ disk: EventDisk
    ) throws(SystemError) -> SharedDescriptor {
        let aside = "\(path).new"
        let file = SharedDescriptor(try OwnedDescriptor.open(aside, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600))
        try disk.write(magic, file.rawValue, aside)
        for event in events { try disk.write(EventCodec.encode(.event(event)), file.rawValue, aside) }
        try systemCall("make durable", aside) { clinux_fdatasync(file.rawValue) }
        try systemCall("rename", aside) { clinux_rename(aside, path) }
        if let slash = path.lastIndex(of: "/") { try DurableFile.syncDirectory(String(path[..<slash])) }
        return file
    }

    /// Reads a whole log.
    ///
    /// - Returns: the events that are not over, and where the first entry begins that is not whole.
    static func read(_ bytes: [UInt8]) -> (events: [String: StoredEvent], end: Int) {
        guard bytes.starts(with: magic) else { return ([:], 0) }
        var events: [String: StoredEvent] = [:]
        var place = magic.count
        while place < bytes.count, let (record, end) = EventCodec.decode(bytes[place...]) {
            switch record {
            case .event(let event): events[event.identifier] = event
            case .done(let identifier): events[identifier] = nil
            }
            place = end
        }
        return (events, place)
    }

    private static func hasEntry(in bytes: ArraySlice<UInt8>) -> Bool {
        bytes.indices.dropFirst().contains { EventCodec.decode(bytes[$0...]) != nil }
    }
}

/// How the log writes and tells the time, so that a test can have a disk that is full.
struct EventDisk: Sendable {
    /// Writes all bytes to a descriptor's file, whose path is for messages.
    var write: @Sendable ([UInt8], Int32, String) throws(SystemError) -> Void = { (bytes, descriptor, path) throws(SystemError) in
        try DurableFile.writeAll(bytes, to: descriptor, path)
    }
    /// Nanoseconds of a clock that does not jump.
    var now: @Sendable () -> Int64 = { MonotonicClock.nanoseconds }
    /// Milliseconds since 1970.
    var wall: @Sendable () -> Int64 = { WallClock.milliseconds }
}
