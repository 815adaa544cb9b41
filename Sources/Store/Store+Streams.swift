/// A stream as `Store.streams()` lists it.
public struct StreamInfo: Hashable, Sendable {
    /// The stream.
    public var identity: StreamIdentity
    /// Its name.
    public var name: String
    /// Nanoseconds since 1970.
    public var created: UInt64
    /// What its creator wanted remembered.
    public var labels: [UInt8]
    /// The checkpoint it began with, of another stream.
    public var origin: CheckpointReference?
    /// The newest checkpoint.
    public var latest: CheckpointEntry?
    /// Checkpoints in the history.
    public var checkpointCount: UInt64
    /// Pages the newest checkpoint has, where its tables tell without being read: at most so many.
    public var pagesMax: UInt64
}

extension Store {
    /// All streams, in the order of their names.
    ///
    /// - Throws: `StoreError`; a stream that is damaged is named.
    public func streams() throws(StoreError) -> [StreamInfo] {
        var result: [StreamInfo] = []
        for slot in try ground.slots() { result.append(try info(try state(slot.record))) }
        return result.sorted { $0.name < $1.name }
    }

    /// All streams that can be read, in the order of their names, and those that cannot.
    ///
    /// - Throws: `StoreError` when the disk fails.
    public func listing() throws(StoreError) -> (streams: [StreamInfo], unreadable: [UnreadableStream]) {
        var streams: [StreamInfo] = []
        var unreadable: [UnreadableStream] = []
        for slot in try ground.slots() {
            do throws(StoreError) { streams.append(try info(try state(slot.record))) } catch {
                guard error.isDamage else { throw error }
                unreadable.append(UnreadableStream(name: slot.record.name, reason: "\(error)"))
            }
        }
        if let damage = try ground.slotDamage() { unreadable.append(UnreadableStream(name: "(a slot)", reason: "\(damage)")) }
        return (streams.sorted { $0.name < $1.name }, unreadable)
    }

    /// One stream.
    ///
    /// - Throws: `StoreError.noStream`, or what reading it meets.
    public func stream(_ name: String) throws(StoreError) -> StreamInfo { try info(try state(try slot(named: name).record)) }

    private func info(_ state: StreamState) throws(StoreError) -> StreamInfo {
        var history = state.history
        let origin = state.anchor.originStream
        return StreamInfo(
            identity: state.record.stream, name: state.record.name, created: state.anchor.created, labels: state.anchor.labels,
            origin: origin.low == 0 && origin.high == 0
                ? nil : CheckpointReference(stream: origin, number: state.anchor.originNumber),
            latest: try history.newest(), checkpointCount: history.count,
            pagesMax: state.last?.chain.reduce(0) { $0 &+ $1.entryCount } ?? 0)
    }

    /// The checkpoints of a stream, oldest first, without reading them.
    ///
    /// - Throws: `StoreError`.
    public func history(_ name: String) throws(StoreError) -> [CheckpointEntry] {
        var state = try state(try slot(named: name).record)
        return try state.history.all()
    }

    /// Opens a checkpoint.
    ///
    /// - Throws: `StoreError.noStream`, `.noCheckpoint`, or what reading meets.
    public func checkpoint(stream name: String, _ selector: CheckpointSelector = .latest) throws(StoreError) -> CheckpointReader {
        try open(selector, in: try state(try slot(named: name).record))
    }

    /// Opens a checkpoint by its lasting name.
    ///
    /// - Throws: `StoreError`.
    public func checkpoint(_ reference: CheckpointReference) throws(StoreError) -> CheckpointReader {
        guard let slot = try ground.slots().first(where: { $0.record.stream == reference.stream }) else {
            throw .noStream("(\(String(reference.stream.high, radix: 16))\(String(reference.stream.low, radix: 16)))")
        }
        return try open(.number(reference.number), in: try state(slot.record))
    }

    private func open(_ selector: CheckpointSelector, in state: StreamState) throws(StoreError) -> CheckpointReader {
        let name = state.record.name
        var history = state.history
        let entry =
            switch selector {
            case .latest: try history.newest()
            case .number(let number): try history.find(number)
            case .name(let name): try history.number(named: name).flatMap { number throws(StoreError) in try history.find(number) }
            case .notAfter(let time): try history.newest(notAfter: time)
            }
        guard let entry else { throw .noCheckpoint(stream: name, wanted: "\(selector)") }
        let wanted = CommitBlock.Expectation(
            store: ground.identity, stream: state.record.stream, sequence: entry.sequence, offset: entry.offset, previous: nil,
            checksum: entry.checksum)
        do throws(StoreError) {
            let block = try StreamState.commit(wanted, source: nodes)
            return CheckpointReader(streamName: name, block: block, source: nodes)
        } catch {
            throw error.inStream(name, number: entry.number)
        }
    }

    func slot(named name: String) throws(StoreError) -> (index: UInt32, record: SlotRecord) {
        if let slot = try ground.slots().first(where: { $0.record.name == name }) { return slot }
        // It may live in a slot that cannot be read.
        if let damage = try ground.slotDamage() { throw damage }
        throw .noStream(name)
    }

    func state(_ record: SlotRecord) throws(StoreError) -> StreamState {
        do throws(StoreError) { return try StreamState(record, store: ground.identity, source: nodes) } catch {
            throw error.inStream(record.name)
        }
    }

    /// Refuses names that do not fit, or that a terminal or a path would take amiss.
    static func check(name: String, of what: String, mayBeEmpty: Bool = false) throws(StoreError) {
        if name.isEmpty {
            if mayBeEmpty { return }
            throw .invalid(what: "name of a \(what)", reason: "it is empty")
        }
        guard name.utf8.count <= StoreFormat.nameBytesMax else {
            throw .invalid(what: "name of a \(what)", reason: "it has \(name.utf8.count) bytes, at most \(StoreFormat.nameBytesMax) fit")
        }
        guard !name.utf8.contains(where: { $0 < 0x20 || $0 == 0x7F }) else {
            throw .invalid(what: "name of a \(what)", reason: "it has control characters")
        }
    }
}

extension Disk {
    /// Waits for a lock.
    func take(_ range: DiskLock) throws(StoreError) -> any DiskLockHandle {
        guard let held = try tryLock(range, wait: true) else { throw .disk(DiskError(.lock, name, code: 11)) }
        return held
    }

    /// A lock, or nil when somebody else holds it and nobody waits.
    func tryLock(_ range: DiskLock, wait: Bool) throws(StoreError) -> (any DiskLockHandle)? {
        do throws(DiskError) { return try lock(range, exclusive: true, wait: wait) } catch { throw .disk(error) }
    }
}
