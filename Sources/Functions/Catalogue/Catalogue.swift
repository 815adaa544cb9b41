internal import CLinux
internal import FoundationEssentials
internal import Linux
internal import Synchronization

/// The functions of a data directory: what was set, their code, and what serves them.
///
/// Each function has a directory: `function.json`, replaced whole, and the code's archive, named by its digest and revision. A change is
/// durable when the call returns. One process holds the catalogue at a time.
public final class Catalogue: Sendable {
    /// The most functions of a directory.
    public static let functionsMax = 10_000
    static let recordBytesMax = 256 << 10
    static let recordFile = "function.json"

    /// `DATA/functions`.
    public let path: String
    /// Directories that are damaged and left alone: their names, and what is wrong.
    public let damaged: [String: String]

    private let lock: Mutex<SharedDescriptor?>
    /// What readers see: swapped when a change is durable.
    ///
    /// Each request reads it, so it is never held while the disk is waited for.
    private let records: Mutex<[String: FunctionRecord]>
    /// Held by who changes something, from the look at what there is until the change is durable.
    private let changing = Mutex(())

    /// Opens the catalogue, made if need be, for this process alone.
    ///
    /// - Throws: `CatalogueError.inUse`, `.host`.
    public init(path: String) throws(CatalogueError) {
        self.path = path
        let file: SharedDescriptor
        var found: [String: FunctionRecord] = [:]
        var damaged: [String: String] = [:]
        do throws(SystemError) {
            try DurableFile.createDirectory(path)
            file = SharedDescriptor(try OwnedDescriptor.open("\(path)/.lock", O_RDWR | O_CREAT))
            let result = clinux_flock(file.rawValue, LOCK_EX | LOCK_NB)
            if result == -Int(EWOULDBLOCK) { throw SystemError("lock", path, errno: .wouldBlock) }
            try systemCall("lock", path) { Int(result) }
            for name in try DurableFile.names(in: path) {
                if name.hasPrefix(".new-") || name.hasPrefix(".removed-") {
                    try? DurableFile.removeDirectory("\(path)/\(name)")
                } else if FunctionName.isValid(name) {
                    switch Catalogue.load(name, in: "\(path)/\(name)") {
                    case .success(let record): found[name] = record
                    case .failure(let error): damaged[name] = error.description
                    }
                }
            }
        } catch {
            throw error.errno == .wouldBlock ? .inUse(path) : .host("\(error)")
        }
        lock = Mutex(file)
        self.damaged = damaged
        records = Mutex(found)
    }

    /// Lets another process have the catalogue; nothing may be changed afterwards.
    public func close() {
        lock.withLock { file in
            // By itself: a child that is just being started still holds the parent's descriptors, and their lock.
            if let file { _ = clinux_flock(file.rawValue, LOCK_UN) }
            file = nil
        }
    }

    deinit { close() }

    /// A function; nil when there is none.
    public subscript(name: String) -> FunctionRecord? { records.withLock { $0[name] } }

    /// All functions, by name.
    public var all: [FunctionRecord] { records.withLock { $0.values.sorted { $0.name < $1.name } } }

    /// The directory of a function.
    func directory(_ name: String) -> String { "\(path)/\(name)" }
    /// The archive of a function's code.
    public func codePath(_ record: FunctionRecord) -> String { "\(path)/\(record.name)/\(record.codeFile)" }

    /// Keeps a new function; it is pending until it was built.
    ///
    /// - Throws: `CatalogueError`.
    public func create(_ name: String, _ settings: FunctionSettings, code: [UInt8]) throws(CatalogueError) -> FunctionRecord {
        guard FunctionName.isValid(name) else {
            throw .invalid(
                "Value '\(name.prefix(80))' at 'functionName' failed to satisfy constraint: letters, digits, - and _, at most 64")
        }
        try SettingsCheck.check(settings)
        guard damaged[name] == nil else { throw .damaged(damaged[name] ?? "") }
        if self[name] != nil { throw .exists(name) }
        var record = FunctionRecord(
            name: name, settings: settings, codeDigest: "", codeFile: "", codeBytes: 0, revision: Identifier.uuid(),
            modifiedAt: WallClock.lambdaTimestamp(), state: .pending, updateStatus: .inProgress)
        try setCode(code, of: &record)
        let staging = "\(path)/.new-\(record.revision)"
        try onHost { () throws(SystemError) in
            try DurableFile.createDirectory(staging)
            try DurableFile.replace("\(staging)/\(record.codeFile)", with: code)
        }
        try write(record, in: staging)
        // The name is taken with the lock held, so that of two creations at once one is refused.
        try place(record, staging)
        return record
    }

    private func place(_ record: FunctionRecord, _ staging: String) throws(CatalogueError) {
        do {
            try changing.withLock { (_) throws(CatalogueError) in
                let (isTaken, count) = records.withLock { ($0[record.name] != nil, $0.count) }
                guard !isTaken else { throw .exists(record.name) }
                guard count < Catalogue.functionsMax else { throw .full(limit: Catalogue.functionsMax) }
                try onHost { () throws(SystemError) in
                    try systemCall("rename", staging) { clinux_rename(staging, directory(record.name)) }
                    try DurableFile.syncDirectory(path)
                }
                records.withLock { $0[record.name] = record }
            }
        } catch {
            try? DurableFile.removeDirectory(staging)
            throw error
        }
    }

    /// Changes a function's settings or code: it is to be built anew.
    ///
    /// - Parameter revision: what the caller believes the function's revision to be; nil: whatever it is.
    /// - Throws: `CatalogueError`; `.busy` while an earlier change is built.
    public func update(
        _ name: String, revision: String? = nil, code: [UInt8]? = nil, _ change: (inout FunctionSettings) -> Void = { _ in }
    ) throws(CatalogueError) -> FunctionRecord {
        guard var record = self[name] else { throw .notFound(name) }
        if let revision, revision != record.revision { throw .revision(name) }
        if record.updateStatus == .inProgress { throw .busy(name) }
        let before = record
        if record.deployed != nil {
            record.before = FunctionBefore(
                settings: record.settings, codeDigest: record.codeDigest, codeFile: record.codeFile, codeBytes: record.codeBytes)
        }
        record.hasFailedInit = nil
        change(&record.settings)
        try SettingsCheck.check(record.settings)
        record.revision = Identifier.uuid()
        record.modifiedAt = WallClock.lambdaTimestamp()
        record.updateStatus = .inProgress
        record.reason = nil
        if record.deployed == nil { record.state = .pending }
        if let code {
            try setCode(code, of: &record)
            let file = codePath(record)
            try onHost { () throws(SystemError) in try DurableFile.replace(file, with: code) }
        }
        try exchange(record, for: before)
        // What serves keeps its code until the change was built.
        if record.before == nil, record.codeFile != before.codeFile { _ = clinux_unlink(codePath(before)) }
        return record
    }

    /// Notes what became of a build, or a setting that needs none; nothing happens if the function was changed or removed meanwhile.
    ///
    /// - Returns: the function as it is now; nil when it is gone.
    /// - Throws: `CatalogueError.host`.
    @discardableResult
    public func note(_ name: String, revision: String, _ change: (inout FunctionRecord) -> Void) throws(CatalogueError) -> FunctionRecord? {
        guard let before = self[name] else { return nil }
        guard before.revision == revision else { return before }
        var record = before
        change(&record)
        do throws(CatalogueError) {
            try exchange(record, for: before)
        } catch {
            if case .busy = error { return self[name] }
            if case .notFound = error { return nil }
            throw error
        }
        for file in [before.codeFile, before.before?.codeFile] {
            guard let file, file != record.codeFile, file != record.before?.codeFile else { continue }
            _ = clinux_unlink("\(directory(name))/\(file)")
        }
        return record
    }

    /// Forgets a function and its code.
    ///
    /// - Throws: `CatalogueError`.
    public func remove(_ name: String) throws(CatalogueError) {
        let grave = "\(path)/.removed-\(Identifier.uuid())"
        try changing.withLock { (_) throws(CatalogueError) in
            guard self[name] != nil else { throw .notFound(name) }
            try onHost { () throws(SystemError) in
                try systemCall("remove", directory(name)) { clinux_rename(directory(name), grave) }
                try DurableFile.syncDirectory(path)
            }
            records.withLock { $0[name] = nil }
        }
        try? DurableFile.removeDirectory(grave)
    }

    private func setCode(_ code: [UInt8], of record: inout FunctionRecord) throws(CatalogueError) {
        guard !code.isEmpty else { throw .invalid("Uploaded file must be a non-empty zip") }
        guard code.count <= SettingsCheck.codeBytesMax else {
            throw .invalid("Unzipped size must be smaller than 262144000 bytes; the archive at most \(SettingsCheck.codeBytesMax) bytes")
        }
        record.codeDigest = Data(SHA256.digest(of: code)).base64EncodedString()
        record.codeFile = "code-\(record.revision).zip"
        record.codeBytes = code.count
    }

    private func exchange(_ record: FunctionRecord, for before: FunctionRecord) throws(CatalogueError) {
        try changing.withLock { (_) throws(CatalogueError) in
            guard let now = self[record.name] else { throw .notFound(record.name) }
            guard now == before else { throw .busy(record.name) }
            try write(record, in: directory(record.name))
            records.withLock { $0[record.name] = record }
        }
    }

    private func write(_ record: FunctionRecord, in directory: String) throws(CatalogueError) {
        let bytes: [UInt8]
        do {
            let encoder = JSONEncoder()
            encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
            bytes = [UInt8](try encoder.encode(record))
        } catch {
            throw .host("Cannot write the function \(record.name) as JSON: \(error)")
        }
        try onHost { () throws(SystemError) in try DurableFile.replace("\(directory)/\(Catalogue.recordFile)", with: bytes) }
    }

    private func onHost(_ body: () throws(SystemError) -> Void) throws(CatalogueError) {
        do throws(SystemError) { try body() } catch { throw .host("\(error)") }
    }
}
