internal import CLinux

/// A program started in a process of its own: it gets the descriptors and variables it is given, no signal is blocked or ignored in
/// it, and nothing else of this process reaches it.
public struct ProgramStart: Sendable {
    /// What the new process belongs to.
    public enum Membership: Sendable {
        /// The caller's process group.
        case caller
        /// A process group of its own: the terminal's signals do not reach it.
        case ownGroup
        /// A session of its own: it outlives the terminal.
        case ownSession
    }

    /// The file, or a name to be looked for in `PATH`.
    public var program: String
    /// The arguments, the program's name first.
    public var arguments: [String]
    /// `NAME=value` entries.
    public var environment: [[UInt8]]
    /// What the new process belongs to.
    public var membership: Membership

    /// Describes a program.
    public init(
        _ program: String, _ arguments: [String], environment: [[UInt8]] = OwnProcess.passedEnvironment(), membership: Membership = .caller
    ) {
        self.program = program
        self.arguments = arguments
        self.environment = environment
        self.membership = membership
    }

    /// Where descriptors are put aside so that none is overwritten before it is passed.
    private static let asideMin: Int32 = 16

    /// Starts the program.
    ///
    /// - Parameter descriptors: open descriptors of this process, and the numbers (below 16) they have in the new one. Higher ones than
    ///   these are closed there: what the caller happens to have open (a script's lock, a parent's pipe) would else stay open as long.
    /// - Returns: the process number.
    /// - Throws: `SystemError` naming the program.
    public func start(_ descriptors: [(descriptor: Int32, target: Int32)]) throws(SystemError) -> Int32 {
        var aside: [SharedDescriptor] = []
        for (descriptor, _) in descriptors { aside.append(try ProgramStart.aside(descriptor)) }
        var actions = posix_spawn_file_actions_t()
        var attributes = posix_spawnattr_t()
        posix_spawn_file_actions_init(&actions)
        posix_spawnattr_init(&attributes)
        defer {
            posix_spawn_file_actions_destroy(&actions)
            posix_spawnattr_destroy(&attributes)
        }
        for (index, (_, target)) in descriptors.enumerated() {
            posix_spawn_file_actions_adddup2(&actions, aside[index].rawValue, target)
        }
        posix_spawn_file_actions_addclosefrom_np(&actions, (descriptors.map(\.target).max() ?? 2) + 1)
        resetSignals(&attributes)
        var words = ProgramStart.words(arguments.map(ByteText.bytes))
        var variables = ProgramStart.words(environment)
        defer { for word in words + variables { free(word) } }
        var process: pid_t = 0
        let result = posix_spawnp(&process, program, &actions, &attributes, &words, &variables)
        guard result == 0 else { throw SystemError("start", program, errno: Errno(rawValue: result)) }
        return process
    }

    /// Copies that end with nil, as execve(2) takes them; the caller frees them.
    private static func words(_ texts: [[UInt8]]) -> [UnsafeMutablePointer<CChar>?] {
        var words: [UnsafeMutablePointer<CChar>?] = texts.map { bytes in
            bytes.withUnsafeBytes { bytes in
                bytes.baseAddress.map { strndup($0.assumingMemoryBound(to: CChar.self), bytes.count) } ?? strdup("")
            }
        }
        words.append(nil)
        return words
    }

    private func resetSignals(_ attributes: inout posix_spawnattr_t) {
        var signals = sigset_t()
        sigemptyset(&signals)
        posix_spawnattr_setsigmask(&attributes, &signals)
        sigfillset(&signals)
        posix_spawnattr_setsigdefault(&attributes, &signals)
        var flags = Int32(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF)
        switch membership {
        case .caller: break
        case .ownGroup: flags |= Int32(POSIX_SPAWN_SETPGROUP)
        case .ownSession: flags |= Int32(POSIX_SPAWN_SETSID)
        }
        posix_spawnattr_setflags(&attributes, Int16(flags))
    }

    private static func aside(_ descriptor: Int32) throws(SystemError) -> SharedDescriptor {
        let number = try systemCall("duplicate", "descriptor \(descriptor)") { clinux_fcntl(descriptor, F_DUPFD_CLOEXEC, Int(asideMin)) }
        return SharedDescriptor(OwnedDescriptor(adopting: Int32(number)))
    }
}
