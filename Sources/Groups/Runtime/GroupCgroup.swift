internal import CLinux
internal import Linux

/// The control group that a VMM process puts itself into, where the user has named a place for that: `$AURORA_CGROUP`.
///
/// The place is a directory of the cgroup file system that this user may write; each group gets one in it, with a limit of memory and of
/// threads. What the whole place may take (processor time, memory of all) is its owner's to set. Both versions of the file system are
/// known.
public struct GroupCgroup: Sendable {
    /// The variable that names the place.
    public static let variable = "AURORA_CGROUP"
    /// What a VMM process may take beside its guest's memory, in bytes: buffers of checkpoints, queues, the program, cached pages of files.
    public static let ownBytes = 512 << 20
    /// Its threads, at most: the machine's, the pipeline's, and one a request and a connection to the control socket.
    public static let threadsMax = 512

    private static let prefix = "aurora-"
    private let place: String

    /// The place that the environment names; nil when it names none.
    public init?(_ environment: [String: String]) {
        guard let place = environment[GroupCgroup.variable], !place.isEmpty else { return nil }
        self.place = place
    }

    /// Finds out whether processes can be put there, for whoever is about to start one.
    ///
    /// - Throws: `GroupError`.
    public func check() throws(GroupError) {
        let result = clinux_access("\(place)/cgroup.procs", W_OK)
        guard result != 0 else { return }
        throw refusal(SystemError("write", "\(place)/cgroup.procs", errno: Errno(rawValue: Int32(truncatingIfNeeded: -result))))
    }

    private func refusal(_ error: SystemError) -> GroupError {
        GroupError(
            .host, "The group cannot be limited by \(GroupCgroup.variable): \(error)",
            remedy: "Let it name a directory below /sys/fs/cgroup that this user may write and no process is in, or unset it.")
    }

    /// Puts the calling process into the group's own.
    ///
    /// - Parameter memoryBytes: of the guest.
    /// - Throws: `GroupError` saying what is not permitted, and what the place must be.
    public func enter(_ name: GroupName, memoryBytes: Int) throws(GroupError) {
        // Another version of the file system takes other names; in the second the place has to hand its controllers on.
        try? GroupCgroup.write("+memory +pids", to: "\(place)/cgroup.subtree_control")
        sweep()
        let own = "\(place)/\(GroupCgroup.prefix)\(name)"
        do throws(SystemError) {
            try make(own)
            let (bytes, _) = memoryBytes.addingReportingOverflow(GroupCgroup.ownBytes)
            for (file, value) in [
                ("memory.max", bytes), ("memory.limit_in_bytes", bytes), ("pids.max", GroupCgroup.threadsMax),
            ] where clinux_access("\(own)/\(file)", F_OK) == 0 { try GroupCgroup.write("\(value)", to: "\(own)/\(file)") }
            try GroupCgroup.write("0", to: "\(own)/cgroup.procs")
        } catch {
            throw refusal(error)
        }
    }

    private func make(_ path: String) throws(SystemError) {
        guard mkdir(path, 0o755) != 0 else { return }
        let number = clinux_errno()
        if number != EEXIST { throw SystemError("make", path, errno: Errno(rawValue: number)) }
    }

    /// Removes those of groups that have ended: only one without processes can be removed.
    private func sweep() {
        for name in (try? FileTree.names(in: place)) ?? [] where name.hasPrefix(GroupCgroup.prefix) { _ = rmdir("\(place)/\(name)") }
    }

    private static func write(_ text: String, to path: String) throws(SystemError) {
        let file = try OwnedDescriptor.open(path, O_WRONLY)
        let number = file.rawValue
        let bytes = Array(text.utf8)
        try systemCall("write", path) { bytes.withUnsafeBytes { clinux_write(number, $0.baseAddress, $0.count) } }
    }
}
