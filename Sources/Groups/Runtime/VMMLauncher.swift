internal import CLinux
public import Linux

/// Starts the VMM process of a group: this program again, detached from the terminal, with the group's lock and a socket.
public enum VMMLauncher {
    /// The descriptor under which the process finds the held lock.
    public static let lockDescriptor: Int32 = 3
    /// The descriptor under which it finds the first client's socket.
    public static let clientDescriptor: Int32 = 4
    /// Where descriptors are put aside so that none is overwritten before it is passed.
    private static let asideMin = 16

    /// Starts the process and returns the caller's end of the client's socket.
    ///
    /// - Throws: `GroupError` (`.host`) when the process cannot be started.
    public static func start(
        _ directory: GroupDirectory, lock: consuming GroupLock, restoring origin: CheckpointAddress? = nil,
        program: String = "/proc/self/exe"
    ) throws(GroupError) -> SharedDescriptor {
        do throws(SystemError) {
            let (near, far) = try Socket.pair()
            let log = try OwnedDescriptor.open(directory.engineLogPath, O_WRONLY | O_CREAT | O_APPEND)
            let null = try OwnedDescriptor.open("/dev/null", O_RDONLY)
            let inherited = [
                (try aside(null.rawValue), Int32(0)), (try aside(log.rawValue), 1), (try aside(log.rawValue), 2),
                (try aside(lock.rawValue), lockDescriptor), (try aside(far.rawValue), clientDescriptor),
            ]
            let restoring = origin.map { ["--restore", $0.description] } ?? []
            try spawn(program, ["aurora", "vmm", "--group", directory.name.text] + restoring, inherited)
            return near
        } catch {
            throw GroupError(.host, "\(error)")
        }
    }

    private static func aside(_ descriptor: Int32) throws(SystemError) -> SharedDescriptor {
        let number = try systemCall("duplicate", "descriptor \(descriptor)") { clinux_fcntl(descriptor, F_DUPFD_CLOEXEC, asideMin) }
        return SharedDescriptor(OwnedDescriptor(adopting: Int32(number)))
    }

    private static func spawn(_ program: String, _ arguments: [String], _ inherited: [(SharedDescriptor, Int32)]) throws(SystemError) {
        var actions = posix_spawn_file_actions_t()
        var attributes = posix_spawnattr_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawnattr_init(&attributes)
        defer {
            posix_spawn_file_actions_destroy(&actions)
            posix_spawnattr_destroy(&attributes)
        }
        for (source, target) in inherited { posix_spawn_file_actions_adddup2(&actions, source.rawValue, target) }
        // What the caller happens to have open (a script's lock, a parent's pipe) would otherwise stay open as long as the group.
        posix_spawn_file_actions_addclosefrom_np(&actions, clientDescriptor + 1)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSID))
        var words: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) }
        words.append(nil)
        defer { for word in words { free(word) } }
        var process: pid_t = 0
        let result = posix_spawn(&process, program, &actions, &attributes, &words, clinux_environment())
        guard result == 0 else { throw SystemError("start", "the VMM process \(program)", errno: Errno(rawValue: result)) }
    }
}
