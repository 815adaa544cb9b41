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

    /// What a recipe needs beyond the few variables of every process of ours: the way to the archives of packages, and, for an ordinary
    /// user, what `fakeroot` keeps the owners of files with.
    private static let passedVariables: Set<String> = [
        "ALL_PROXY", "APT_CONFIG", "FTP_PROXY", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "all_proxy", "ftp_proxy", "http_proxy",
        "https_proxy", "no_proxy", "PIP_CERT", "PIP_CONFIG_FILE", "PIP_DEFAULT_TIMEOUT", "PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS",
        "PIP_INDEX_URL", "PIP_NO_INDEX", "PIP_TRUSTED_HOST", "SSL_CERT_FILE", "FAKEROOTKEY", "FAKED_MODE", "LD_PRELOAD",
    ]

    private func spawn() throws(SystemError) -> pid_t {
        let reading = inputDescriptor == nil ? SharedDescriptor(try OwnedDescriptor.open(input, O_RDONLY)) : nil
        let messages = SharedDescriptor(try OwnedDescriptor.open(log, O_WRONLY | O_CREAT | O_APPEND))
        let writing = try output.map { path throws(SystemError) in
            SharedDescriptor(try OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC))
        }
        var descriptors = [
            (inputDescriptor ?? reading?.rawValue ?? -1, Int32(0)), (writing?.rawValue ?? messages.rawValue, 1), (messages.rawValue, 2),
        ]
        if let lock { descriptors.append((lock.descriptor, Self.inheritedLock)) }
        let environment = OwnProcess.passedEnvironment(also: Self.passedVariables)
        let child = try ProgramStart(command.first ?? "", command, environment: environment).start(descriptors)
        // Until here: the numbers are in use.
        withExtendedLifetime((reading, messages, writing)) {}
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
