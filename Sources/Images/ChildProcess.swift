internal import CLinux
internal import Linux

/// A program run to its end, with its standard streams on files.
struct ChildProcess {
    /// How a program ended.
    enum End: Equatable {
        case exited(Int32)
        case killed(signal: Int32)
    }

    /// The program's name, searched for in PATH, and its arguments.
    let command: [String]
    /// What it reads.
    var input = "/dev/null"
    /// A descriptor it reads from in place of `input`.
    var inputDescriptor: Int32?
    /// Where its output goes; nil is the log.
    var output: String?
    /// Where its error messages go, appended.
    let log: String
    /// A lock the program and all it starts keep open, so that the lock outlives this process if it is killed.
    var lock: BuildLock?

    /// Runs the program and waits for it.
    ///
    /// - Throws: `ImageError.system` when it cannot be started.
    func run() throws(ImageError) -> End { Self.wait(for: try start()) }

    /// Starts the program; the caller waits for it.
    ///
    /// - Throws: `ImageError.system` when it cannot be started.
    func start() throws(ImageError) -> pid_t {
        do throws(SystemError) { return try spawn() } catch { throw .system(error) }
    }

    private func spawn() throws(SystemError) -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        if let inputDescriptor {
            posix_spawn_file_actions_adddup2(&actions, inputDescriptor, STDIN_FILENO)
        } else {
            posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, input, O_RDONLY, 0)
        }
        posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, log, O_WRONLY | O_CREAT | O_APPEND, 0o600)
        if let output {
            posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output, O_WRONLY | O_CREAT | O_TRUNC, 0o600)
        } else {
            posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO)
        }
        if let lock { posix_spawn_file_actions_adddup2(&actions, lock.descriptor, Self.inheritedLock) }

        // A child must not inherit that its parent ignores SIGPIPE and SIGXFSZ, or has signals blocked.
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        sigaddset(&signals, SIGPIPE)
        sigaddset(&signals, SIGXFSZ)
        posix_spawnattr_setsigdefault(&attributes, &signals)
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF))

        var arguments = command.map { strdup($0) } + [nil]
        defer { for argument in arguments { free(argument) } }
        var child: pid_t = 0
        let result = posix_spawnp(&child, command.first ?? "", &actions, &attributes, &arguments, clinux_environment())
        guard result == 0 else { throw SystemError("run", command.first ?? "", errno: Errno(rawValue: result)) }
        return child
    }

    /// Where a child finds the lock; it never looks at it.
    private static let inheritedLock: Int32 = 3

    /// Waits for the end of a program that was started.
    static func wait(for child: pid_t) -> End {
        var status: Int32 = 0
        while waitpid(child, &status, 0) < 0, clinux_errno() == EINTR {}
        let signal = status & 0x7f
        return signal == 0 ? .exited((status >> 8) & 0xff) : .killed(signal: signal)
    }
}
