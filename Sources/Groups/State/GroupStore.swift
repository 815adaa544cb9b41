internal import CLinux
internal import Linux

/// All groups of a data directory.
public struct GroupStore: Sendable {
    /// Where the groups are.
    public let data: DataDirectory

    /// Opens the groups of a data directory, which need not exist yet.
    public init(_ data: DataDirectory) { self.data = data }

    /// A group that was just made, with the lock its VMM process takes over.
    public struct Created: ~Copyable {
        /// The group's files.
        public let directory: GroupDirectory
        /// The held lock.
        public let lock: GroupLock

        /// Gives the lock away.
        public consuming func takeLock() -> GroupLock { lock }
    }

    /// The files of a group that exists.
    ///
    /// - Throws: `GroupError` (`.notFound`).
    public func find(_ name: GroupName) throws(GroupError) -> GroupDirectory {
        let directory = GroupDirectory(name: name, in: data)
        let result = clinux_access(directory.configurationPath, F_OK)
        if result == 0 { return directory }
        guard result == -Int(ENOENT) || result == -Int(ENOTDIR) else {
            let error = SystemError(
                "look for group \(name) in", data.groupsPath, errno: Errno(rawValue: Int32(truncatingIfNeeded: -result)))
            throw GroupError(.host, "\(error)", remedy: "Use the user whose groups these are, or set AURORA_HOME.")
        }
        throw GroupError(.notFound, "There is no group named \(name)", remedy: "List the groups with: aurora ps -a")
    }

    /// All groups, by name.
    ///
    /// - Throws: `GroupError` when the directory cannot be read.
    public func list() throws(GroupError) -> [GroupDirectory] {
        do throws(SystemError) {
            return try FileTree.names(in: data.groupsPath).filter(GroupName.isValid).sorted()
                .compactMap { try? GroupName($0) }.map { GroupDirectory(name: $0, in: data) }
        } catch {
            throw GroupError(.host, "\(error)")
        }
    }

    /// Makes a group: its directory appears under its name whole and locked, or not at all.
    ///
    /// - Throws: `GroupError`: `.nameTaken`, `.host`.
    public func create(_ configuration: GroupConfiguration) throws(GroupError) -> Created {
        try configuration.requireFitting()
        let directory = GroupDirectory(name: configuration.name, in: data)
        let staging = "\(data.groupsPath)/.new-\(configuration.name)-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        do {
            try PrivateDirectory.create(staging)
            guard let lock = try GroupLock.take("\(staging)/lock") else {
                throw GroupError(.host, "Cannot lock \(staging)/lock, which was just made")
            }
            // What is persisted must be found under its name after a power cut; anything else is over then.
            let isToLast = configuration.persistence != nil
            try StateFile.write(configuration, to: "\(staging)/config.json", flushesDirectory: false)
            try StateFile.write(GroupStatus(state: .created), to: "\(staging)/status.json", flushesDirectory: isToLast)
            try place(staging, at: directory)
            if isToLast { try DurableFile.syncDirectory(data.groupsPath) }
            return Created(directory: directory, lock: lock)
        } catch {
            try? FileTree.remove(staging)
            if let error = error as? GroupError { throw error }
            throw GroupError(.host, "\(error)", remedy: "Set AURORA_HOME to a directory you can write to, or check its permissions.")
        }
    }

    private func place(_ staging: String, at directory: GroupDirectory) throws {
        let result = clinux_rename_exclusive(staging, directory.path)
        if result == -Int(EEXIST) || result == -Int(ENOTEMPTY) {
            throw GroupError(
                .nameTaken, "The name \(directory.name) is taken",
                remedy: "Choose another with --name, or remove that group with: aurora rm \(directory.name)")
        }
        try systemCall("create group", directory.path) { Int(result) }
    }

    /// Makes a group under a friendly name of its own.
    ///
    /// - Throws: as `create`.
    public func createWithGeneratedName(_ configuration: GroupConfiguration) throws(GroupError) -> Created {
        var configuration = configuration
        var generator = SystemRandomNumberGenerator()
        for attempt in 0..<100 {
            configuration.name = try GroupName(GroupName.generated(attempt: attempt, using: &generator))
            do throws(GroupError) {
                return try create(configuration)
            } catch  where error.kind == .nameTaken {
                continue
            }
        }
        throw GroupError(.nameTaken, "No free name was found", remedy: "Name the group with --name.")
    }

    /// Removes a group that does not run.
    ///
    /// - Throws: `GroupError`: `.isRunning`, `.notFound`, `.host`.
    public func remove(_ name: GroupName) throws(GroupError) {
        let directory = try find(name)
        do {
            guard let lock = try GroupLock.take(directory.lockPath) else {
                throw GroupError(
                    .isRunning, "Group \(name) is running",
                    remedy: "Stop it first with: aurora stop \(name), or remove it all the same with: aurora rm --force \(name)")
            }
            try directory.removeFiles(in: data)
            _ = lock.rawValue
            sweep()
        } catch let error as GroupError {
            throw error
        } catch {
            throw GroupError(.host, "\(error)")
        }
    }

    /// Removes what interrupted commands left: directories whose process is gone.
    private func sweep() {
        for name in (try? FileTree.names(in: data.groupsPath)) ?? [] where name.hasPrefix(".removed-") || name.hasPrefix(".new-") {
            let parts = name.split(separator: "-")
            guard parts.count >= 4, let process = Int32(parts[parts.count - 2]), clinux_kill(process, 0) == -Int(ESRCH) else { continue }
            try? FileTree.remove("\(data.groupsPath)/\(name)")
        }
    }
}
