import CLinux
import Groups
import Linux
import Snapshot
import Store
import Synchronization

/// A store as the commands and the VMM process use it: histories of groups, images, and what is in a checkpoint.
struct StoreAccess: Sendable {
    /// The file or device.
    let path: String
    let store: Store
    let disk: FileDisk
    /// A writer that is about to end may hold its stream for so long.
    private static let removeAttempts = 50

    /// Opens a store that exists.
    ///
    /// - Throws: `GroupError` when there is none, or what keeps it from being opened.
    static func open(_ path: String, readOnly: Bool = false) throws -> StoreAccess {
        guard let access = try openIfPresent(path, readOnly: readOnly) else {
            throw GroupError(
                .notFound, "There is no store at \(path)", remedy: "aurora persist makes one at its first use; or: aurora store init")
        }
        return access
    }

    /// Opens a store that exists, for a command that only reads it: also where nothing can be written.
    ///
    /// - Throws: as `open`.
    static func openForReading(_ path: String) throws -> StoreAccess {
        do { return try open(path) } catch let error as DiskError where error.operation == .open && [EROFS, EACCES].contains(error.code) {
            let disk = try FileDisk.open(path, readOnly: true)
            return StoreAccess(path: path, store: try Store.open(disk, memory: .alone), disk: disk)
        }
    }

    /// Does what excludes collections and scrubs, when those under way have ended: running groups collect now and then.
    ///
    /// Says what it waits for, and how long it will.
    ///
    /// - Throws: as `body`; `StoreError.busy` when it does not get its turn within two minutes.
    func inTurn<Result>(_ body: (Store) throws -> Result) throws -> Result {
        let limit = clinux_clock_ns(CLOCK_MONOTONIC) + StoreAccess.turnSeconds * 1_000_000_000
        var told: StoreError?
        while true {
            do { return try body(store) } catch let error as StoreError {
                guard case .busy = error, clinux_clock_ns(CLOCK_MONOTONIC) < limit else { throw error }
                if told != error { Terminal.writeError("aurora: waiting, at most \(StoreAccess.turnSeconds) s: \(error)\n") }
                told = error
                usleep(50_000)
            }
        }
    }

    private static let turnSeconds: Int64 = 120
    private static let opened = Mutex<[String: StoreAccess]>([:])

    /// Opens a store once in the life of this process, for one that goes on using it.
    ///
    /// - Throws: as `open`.
    static func openOnce(_ path: String) throws -> StoreAccess {
        if let access = opened.withLock({ $0[path] }) { return access }
        let access = try open(path)
        return opened.withLock { all in
            let first = all[path] ?? access
            all[path] = first
            return first
        }
    }

    /// Opens a store; nil when there is none.
    static func openIfPresent(_ path: String, readOnly: Bool = false) throws -> StoreAccess? {
        // A directory that this user may not enter is no absence: opening the file says so.
        if [ENOENT, ENOTDIR].map({ -Int($0) }).contains(clinux_access(path, F_OK)) { return nil }
        let runtime = CommandContext.data.storeRuntimePath
        try CommandContext.data.makeRuntime(runtime)
        let disk = try FileDisk.open(path, readOnly: readOnly)
        return StoreAccess(path: path, store: try Store.open(disk, memory: .directory(runtime)), disk: disk)
    }

    /// Opens a store, and makes the file when there is none.
    static func openOrCreate(_ path: String) throws -> StoreAccess {
        if let access = try openIfPresent(path) { return access }
        try create(path, StoreConfiguration.fileBytesDefault)
        return try open(path)
    }

    /// Makes a store in a new file: it appears whole, and whoever comes second finds the first one's.
    static func create(_ path: String, _ byteCount: UInt64) throws {
        let staging = "\(path).new-\(getpid())"
        let parent = path.lastIndex(of: "/").map { String(path[..<$0]) } ?? "."
        if !parent.isEmpty { try DataDirectory.create(parent) }
        _ = clinux_unlink(staging)
        defer { _ = clinux_unlink(staging) }
        let disk = try FileDisk.create(staging, byteCount: byteCount)
        try Store.create(on: disk, StoreConfiguration(createdAt: Timestamp.wallClockNanoseconds()))
        let result = clinux_rename_exclusive(staging, path)
        if result == -Int(EEXIST) { return }
        try systemCall("make the store", path) { Int(result) }
    }

    // MARK: - Streams

    func hasStream(_ name: String) throws -> Bool {
        do throws(StoreError) {
            _ = try store.stream(name)
            return true
        } catch .noStream {
            return false
        }
    }

    /// All streams that can be read: one that cannot does not hide the others.
    func streams() throws -> [StreamSummary] { try store.listing().streams.map(StreamSummary.init) }

    /// Removes a stream; waits a moment for a writer that is about to end.
    func removeStream(_ name: String) throws {
        WorkingSetFile(of: name, in: CommandContext.data).remove()
        for attempt in 1... {
            do throws(StoreError) {
                return try store.removeStream(name)
            } catch .streamInUse(let name) {
                guard attempt < StoreAccess.removeAttempts else { throw StoreError.streamInUse(name) }
                usleep(100_000)
            } catch .noStream {
                return
            }
        }
    }

    // MARK: - Checkpoints

    func history(_ stream: String) throws -> [CheckpointSummary] {
        try store.history(stream).reduce(into: []) { list, entry in
            list.append(CheckpointSummary(entry, after: list.last?.number))
        }
    }

    /// Finds a checkpoint that a group can go on from.
    func resolve(_ stream: String, _ choice: CheckpointChoice) throws -> CheckpointAddress {
        let reader = try reader(stream, choice)
        guard CheckpointFigures(reader.statistics) != nil else {
            throw GroupError(
                .notFound, "\(stream) has no checkpoint of a running machine\(choice == .latest ? " yet" : " there")",
                remedy: "List what there is with: aurora history \(stream.split(separator: "/").last ?? "")")
        }
        return CheckpointAddress(stream: stream, number: reader.number)
    }

    func reader(_ stream: String, _ choice: CheckpointChoice) throws -> CheckpointReader {
        switch choice {
        case .latest: try store.checkpoint(stream: stream, .latest)
        case .number(let number): try store.checkpoint(stream: stream, .number(number))
        case .name(let name): try store.checkpoint(stream: stream, .name(name))
        case .time(let time): try store.checkpoint(stream: stream, .notAfter(UInt64(clamping: time)))
        }
    }

    func reader(_ address: CheckpointAddress) throws -> CheckpointReader {
        try store.checkpoint(stream: address.stream, .number(address.number))
    }

    /// The host's side and the machine's state of a checkpoint.
    func envelope(_ reader: CheckpointReader) throws -> CheckpointEnvelope {
        try CheckpointEnvelope(try reader.state(), of: "Checkpoint \(reader.number) of \(reader.streamName)")
    }

    func context(_ address: CheckpointAddress) throws -> GroupContext { try envelope(try reader(address)).context }
}

extension CheckpointSummary {
    /// Describes an entry of a history; `previous` is the number of the entry before it.
    init(_ entry: CheckpointEntry, after previous: UInt64?) {
        let figures = CheckpointFigures(entry.statistics)
        let origin = figures.map(\.previous)
        self.init(
            number: entry.number, time: Timestamp.format(nanosecondsSince1970: Int64(clamping: entry.time)),
            name: entry.name.isEmpty ? nil : entry.name, stopMicroseconds: figures?.stopMicroseconds,
            parts: figures.flatMap { StopParts(nanoseconds: $0.parts) }, pagesInStop: figures.map { Int($0.pagesInStop) },
            preCopyMicroseconds: figures.map { Int($0.preCopyMicroseconds) }, pages: Int(clamping: entry.pageCount),
            newPages: Int(clamping: entry.newPageCount), writtenBytes: Int(clamping: entry.writtenBytes), isDurable: true,
            origin: figures == nil ? "image" : origin.flatMap { $0 == 0 || $0 + 1 == entry.number || $0 == previous ? nil : "\($0)" })
    }
}

extension StreamSummary {
    init(_ info: StreamInfo) {
        // A group's stream begins with its image's checkpoint, which is nothing to resume from.
        let latest = info.latest.flatMap { info.name.hasPrefix("group/") && CheckpointFigures($0.statistics) == nil ? nil : $0 }
        self.init(
            name: info.name, latestNumber: latest?.number,
            latestTime: latest.map { Timestamp.format(nanosecondsSince1970: Int64(clamping: $0.time)) },
            checkpoints: Int(clamping: info.checkpointCount))
    }
}
