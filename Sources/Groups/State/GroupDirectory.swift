internal import CLinux
internal import Linux

/// The files of one group.
public struct GroupDirectory: Sendable, Hashable {
    /// The group's name.
    public let name: GroupName
    /// `groups/NAME`.
    public let path: String
    /// The directory of the group's sockets; there only while it runs.
    public let runtimePath: String

    /// Names a group's files.
    public init(name: GroupName, in data: DataDirectory) {
        self.name = name
        path = data.groupPath(name)
        runtimePath = data.runtimePath(name)
    }

    /// What the user asked for.
    public var configurationPath: String { "\(path)/config.json" }
    /// What became of it.
    public var statusPath: String { "\(path)/status.json" }
    /// Held by the VMM process as long as it lives.
    public var lockPath: String { "\(path)/lock" }
    /// Output of the program.
    public var logPath: String { "\(path)/output.log" }
    /// Messages of the VMM process itself.
    public var engineLogPath: String { "\(path)/engine.log" }
    /// The guest's console is not longer on disk, in bytes.
    public static let consoleBytesMax = ConsoleFile.bytesMax
    /// The guest's console.
    public var consolePath: String { "\(path)/console.log" }
    /// The stream of the store that holds the group's history.
    public var streamName: String { GroupDirectory.streamName(name) }
    /// The stream of the store that holds a group's history.
    public static func streamName(_ name: GroupName) -> String { "group/\(name)" }
    /// The stream of the store that holds an image.
    public static func streamName(image: String) -> String { "image/\(image)" }
    /// HTTP and JSON.
    public var controlSocketPath: String { "\(runtimePath)/control.sock" }
    /// The guest's vsock ports.
    public var vsockSocketPath: String { "\(runtimePath)/vsock.sock" }
    /// Standard input and output of the program.
    public var attachSocketPath: String { "\(runtimePath)/attach.sock" }

    /// Reads the configuration.
    ///
    /// - Throws: `GroupError`: `.notFound`, or `.badState` for a damaged file or another version.
    public func configuration() throws(GroupError) -> GroupConfiguration {
        let configuration: GroupConfiguration
        do throws(GroupError) {
            configuration = try StateFile.read(
                GroupConfiguration.self, from: configurationPath,
                remedy: "If the group has a history, that is whole: see aurora history \(name) and aurora restore \(name) --as NEW.")
        } catch  where error.kind == .notFound {
            throw GroupError(.notFound, "There is no group named \(name)", remedy: "List the groups with: aurora ps -a")
        }
        guard configuration.version == GroupConfiguration.currentVersion else {
            throw GroupError(
                .badState,
                "\(configurationPath) has version \(configuration.version), this program knows \(GroupConfiguration.currentVersion)",
                remedy: "Use the version of aurora that made the group.")
        }
        return configuration
    }

    /// Writes the status; only the holder of the lock may.
    ///
    /// - Throws: `GroupError` when the file cannot be written.
    public func write(_ status: GroupStatus) throws(GroupError) {
        // Whether a group that was alive before a power cut is found as it was a moment earlier is all the same: it is dead.
        try StateFile.write(status, to: statusPath, flushesDirectory: !status.isLive)
    }

    /// Removes what killed writers of the status left beside it; only the holder of the lock may.
    func removeLeftovers() { DurableFile.removeLeftovers(of: statusPath) }

    /// Whether the group's VMM process lives.
    ///
    /// - Throws: `GroupError` when the lock cannot be asked for.
    public func isLive() throws(GroupError) -> Bool {
        do throws(SystemError) { return try GroupLock.isHeld(lockPath) } catch { throw GroupError(.host, "\(error)") }
    }

    /// The process that holds the group's lock; nil when none does, or it did not say.
    public var holder: Int32? { GroupLock.holder(lockPath) }

    /// The status as it is now: a group whose VMM was killed is found out, its sockets removed and the fact written down.
    ///
    /// A file that is damaged says nothing about the group itself: who runs is asked, and who does not run is dead.
    ///
    /// - Throws: `GroupError` when the files cannot be read.
    public func status() throws(GroupError) -> GroupStatus {
        // The lock is asked first: a VMM writes its last status and only then ends.
        let live = try isLive()
        var status: GroupStatus
        do throws(GroupError) {
            status = try StateFile.read(GroupStatus.self, from: statusPath, remedy: "See: aurora ps -a")
        } catch  where error.kind == .notFound {
            status = GroupStatus(state: .created)
        } catch  where error.kind == .badState {
            return live
                ? askedStatus(instead: error) : bury(GroupStatus(state: .unknown), because: "The VMM process is gone, and \(error.message)")
        }
        guard status.version == GroupStatus.currentVersion else {
            throw GroupError(.badState, "\(statusPath) has version \(status.version), this program knows \(GroupStatus.currentVersion)")
        }
        if live || !status.isLive { return status }
        let process = status.processID.map { " \($0)" } ?? ""
        return bury(status, because: "The VMM process\(process) ended without saying why (killed, or the host restarted)")
    }

    /// What the group's process says of itself, whose file cannot be read.
    private func askedStatus(instead damage: GroupError) -> GroupStatus {
        if let status = ControlClient(self).ownStatus() { return status }
        var status = GroupStatus(state: .unknown)
        status.processID = holder
        status.error = damage.message
        return status
    }

    private func bury(_ last: GroupStatus, because reason: String) -> GroupStatus {
        var status = last
        status.state = .dead
        status.error = reason
        status.processID = nil
        status.endedAt = Timestamp.now()
        // Who cannot take the lock or write (another user, a full disk) still reports the truth, only does not record it.
        guard let lock = try? GroupLock.take(lockPath) else { return status }
        removeRuntimeFiles()
        try? write(status)
        _ = lock.rawValue
        return status
    }

    /// Removes the sockets of a group that does not run.
    public func removeRuntimeFiles() {
        for socket in [controlSocketPath, vsockSocketPath, attachSocketPath] { _ = clinux_unlink(socket) }
        _ = rmdir(runtimePath)
    }

    /// Removes the group's files; the caller holds the lock, or the group cannot run any more.
    ///
    /// - Throws: `GroupError` naming what cannot be removed.
    public func removeFiles(in data: DataDirectory) throws(GroupError) {
        removeRuntimeFiles()
        // The name is free at once; what is interrupted later is a hidden directory that the next removal sweeps.
        let grave = "\(data.groupsPath)/.removed-\(name)-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        do {
            try systemCall("remove", path) { clinux_rename(path, grave) }
            try FileTree.remove(grave)
        } catch {
            throw GroupError(.host, "\(error)", remedy: "Check the permissions of \(data.groupsPath).")
        }
    }
}
