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
        var failure: SystemError?
    }

    private let path: String
    private let state: Mutex<State>
    private let pool: NIOThreadPool
    /// What was found wrong with the file when it was opened; nil: nothing.
    let damage: String?

    /// Opens the log, made if need be.
    ///
    /// - Parameter pool: where the file is written; the caller starts and ends it.
    init(path: String, pool: NIOThreadPool) throws(SystemError) {
        self.path = path
        self.pool = pool
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
        let descriptor = try EventLog.rewrite(path, events.values)
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

    /// Keeps an entry; returns when it is durable.
    func append(_ record: EventRecord) async throws(SystemError) {
        let error = await withCheckedContinuation { continuation in submit(record, OnceResumption(continuation)) }
        if let error { throw error }
    }

    /// Keeps an entry without waiting: should it be lost, the event is only delivered once more.
    func note(_ record: EventRecord) { submit(record, nil) }

    private func submit(_ record: EventRecord, _ done: OnceResumption<SystemError?>?) {
        let bytes = EventCodec.encode(record)
        let (mustFlush, failure) = state.withLock { state -> (Bool, SystemError?) in
            if let failure = state.failure { return (false, failure) }
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
            let (batch, descriptor) = state.withLock { state in
                defer { state.pending = [] }
                if state.pending.isEmpty { state.isFlushing = false }
                return (state.pending, state.descriptor)
            }
            if batch.isEmpty { return }
            var failure: SystemError?
            do throws(SystemError) {
                let bytes = batch.flatMap(\.bytes)
                try DurableFile.writeAll(bytes, to: descriptor.rawValue, path)
                try systemCall("make durable", path) { clinux_fdatasync(descriptor.rawValue) }
                state.withLock { $0.fileBytes += bytes.count }
                try compactIfWorthwhile()
            } catch {
                // After a failed write nobody knows what the disk has: nothing is acknowledged any more until the log was written anew.
                failure = recover(from: error)
            }
            for entry in batch { entry.done?(failure) }
        }
    }

    private func compactIfWorthwhile() throws(SystemError) {
        let (isWorthwhile, events) = state.withLock { state in
            let isWorthwhile = state.fileBytes > max(EventLog.compactionBytesMin, 4 * state.liveBytes)
            // What is pending is in `events` already; it will be in the file twice, which does no harm.
            return (isWorthwhile, isWorthwhile ? Array(state.events.values) : [])
        }
        guard isWorthwhile else { return }
        let descriptor = try EventLog.rewrite(path, events)
        state.withLock {
            $0.descriptor = descriptor
            $0.fileBytes = 0
        }
    }

    private func recover(from error: SystemError) -> SystemError {
        let events = self.events
        do throws(SystemError) {
            let descriptor = try EventLog.rewrite(path, events)
            state.withLock {
                $0.descriptor = descriptor
                $0.fileBytes = 0
            }
        } catch {
            state.withLock { $0.failure = error }
        }
        return error
    }

    private static func rewrite(_ path: String, _ events: some Sequence<StoredEvent>) throws(SystemError) -> SharedDescriptor {
        let aside = "\(path).new"
        let file = SharedDescriptor(try OwnedDescriptor.open(aside, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600))
        try DurableFile.writeAll(magic, to: file.rawValue, aside)
        for event in events { try DurableFile.writeAll(EventCodec.encode(.event(event)), to: file.rawValue, aside) }
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
