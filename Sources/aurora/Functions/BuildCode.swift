import AgentClient
import AgentProtocol
import CLinux
import Functions
import Linux

/// The code of a function on its way into the machine: any archive that libarchive reads, or a directory, as a tar stream.
struct BuildCode {
    /// The most bytes of a packed archive (Lambda's limit).
    static let packedBytesMax = 50 << 20
    private static let chunkBytes = 65_536
    /// `nobody`: what reads a stranger's archive has no rights to lose.
    private static let nobody = "65534"

    /// The archive or directory.
    let path: String

    /// Checks that there is something to read.
    ///
    /// - Throws: `FunctionBuildError.badCode`.
    init(_ path: String) throws(FunctionBuildError) {
        self.path = path
        guard clinux_access(path, R_OK) == 0 else { throw .badCode("\(path) is missing or cannot be read") }
        guard !isDirectory else { return }
        let bytes = clinux_file_bytes(path)
        guard bytes > 0 else { throw .badCode("\(path) is empty") }
        guard bytes <= Int64(BuildCode.packedBytesMax) else {
            throw .badCode("\(path) has \(bytes) bytes, at most \(BuildCode.packedBytesMax >> 20) MiB are allowed")
        }
    }

    private var isDirectory: Bool {
        var facts = stat()
        return stat(path, &facts) == 0 && facts.st_mode & 0o170000 == 0o040000
    }

    private var command: [String] {
        let tar = ["bsdtar", "--format=pax", "--no-xattrs", "--no-acls", "--no-fflags", "--uid", "0", "--gid", "0", "-cf", "-"]
        // A directory is the user's own, who is allowed to read it; an archive may come from anywhere.
        guard !isDirectory else { return tar + ["-C", path, "."] }
        let drop = ["setpriv", "--reuid", BuildCode.nobody, "--regid", BuildCode.nobody, "--clear-groups", "--no-new-privs"]
        return (getuid() == 0 ? drop : []) + tar + ["@-"]
    }

    /// Sends the code to a program of the guest that unpacks it.
    ///
    /// - Throws: `FunctionBuildError.badCode`, `.machine`.
    func unpack(with agent: AgentClient) throws {
        let session = try agent.start(
            StartRequest(arguments: ["tar", "--no-same-owner", "-xf", "-"], directory: "/var/task", wantsInput: true))
        let source = try ChildOutput(command, input: isDirectory ? "/dev/null" : path)
        defer { source.end() }
        var check = CodeStreamCheck()
        var said: [UInt8] = []
        var pending: ArraySlice<UInt8> = []
        var inputEnded = false
        while true {
            while let event = try session.nextAvailable() {
                switch event {
                case .exited(let status):
                    guard inputEnded, status == ExitStatus(.code, 0) else {
                        throw FunctionBuildError.badCode("it cannot be unpacked: \(String(decoding: said.prefix(500), as: UTF8.self))")
                    }
                    return
                case .error(let bytes), .output(let bytes): said += bytes.prefix(1_000)
                case .inputAllowed: break
                }
            }
            if pending.isEmpty && !inputEnded {
                let bytes = try source.read(BuildCode.chunkBytes)
                do { try check.look(bytes) } catch { throw FunctionBuildError.badCode(error.description) }
                pending = bytes[...]
                if bytes.isEmpty {
                    if let reason = source.failure() { throw FunctionBuildError.badCode("it cannot be read: \(reason)") }
                    do { try check.finish() } catch { throw FunctionBuildError.badCode(error.description) }
                    try session.endInput()
                    inputEnded = true
                }
            }
            if !pending.isEmpty { pending = pending.dropFirst(try session.send(input: pending)) }
            if !pending.isEmpty || inputEnded { try BuildCode.wait(session) }
        }
    }

    private static func wait(_ session: ExecSession) throws {
        var entry = pollfd(fd: session.pollDescriptor, events: Int16(POLLIN), revents: 0)
        guard clinux_poll(&entry, 1, 60_000) != 0 else { throw FunctionBuildError.machine("the guest does not unpack the code") }
    }
}

/// The output of a child process, read as it comes; the child ends with its owner.
final class ChildOutput {
    private static let messageBytesMax = 500
    private let output: SharedDescriptor
    private let messages: OwnedDescriptor
    private var process: pid_t = 0

    /// Starts a program that is looked up in `PATH`, with a file as its input.
    ///
    /// - Throws: `SystemError`.
    convenience init(_ command: [String], input path: String) throws(SystemError) {
        try self.init(command, input: try OwnedDescriptor.open(path, O_RDONLY))
    }

    /// Starts a program under a name, with some bytes as its input.
    ///
    /// - Throws: `SystemError`.
    convenience init(_ command: [String], name: String, order: [UInt8]) throws(SystemError) {
        let number = try systemCall("create", "a file in memory") { clinux_memfd_create("order", 1) }
        let file = OwnedDescriptor(adopting: Int32(number))
        let written = try systemCall("write", "a file in memory") { clinux_pwrite(Int32(number), order, order.count, 0) }
        guard written == order.count else { throw SystemError("write", "a file in memory", errno: Errno(rawValue: ENOSPC)) }
        try self.init(command, name: name, input: file)
    }

    private init(_ command: [String], name: String? = nil, input: consuming OwnedDescriptor) throws(SystemError) {
        let (reading, writing) = try Socket.pair()
        output = reading
        messages = OwnedDescriptor(adopting: Int32(try systemCall("create", "a file in memory") { clinux_memfd_create("messages", 1) }))
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        posix_spawn_file_actions_adddup2(&actions, input.rawValue, 0)
        posix_spawn_file_actions_adddup2(&actions, writing.rawValue, 1)
        posix_spawn_file_actions_adddup2(&actions, messages.rawValue, 2)
        posix_spawn_file_actions_addclosefrom_np(&actions, 3)
        var words: [UnsafeMutablePointer<CChar>?] = ([name ?? command[0]] + command.dropFirst()).map { strdup($0) } + [nil]
        defer { for word in words { free(word) } }
        let result = posix_spawnp(&process, command[0], &actions, nil, &words, clinux_environment())
        guard result == 0 else { throw SystemError("run", command[0], errno: Errno(rawValue: result)) }
    }

    deinit { if process > 0 { ChildOutput.kill(process) } }

    /// The next bytes; none when the child has closed its output.
    ///
    /// - Throws: `SystemError`.
    func read(_ count: Int) throws(SystemError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        let number = output.rawValue
        let got = try systemCall("read", "a program's output") { clinux_read(number, &bytes, count) }
        return Array(bytes.prefix(got))
    }

    /// Waits for the child; nil when it succeeded, else what it said.
    func failure() -> String? {
        var status: Int32 = 0
        while waitpid(process, &status, 0) < 0, clinux_errno() == EINTR {}
        process = 0
        guard status != 0 else { return nil }
        var text = [UInt8](repeating: 0, count: ChildOutput.messageBytesMax)
        let got = clinux_pread(messages.rawValue, &text, text.count, 0)
        let said = String(decoding: text.prefix(max(0, got)), as: UTF8.self)
        return said.isEmpty ? "status \(status)" : String(said.split(whereSeparator: \.isNewline).joined(separator: "; "))
    }

    /// Ends the child if it still runs.
    func end() {
        if process > 0 { ChildOutput.kill(process) }
        process = 0
    }

    private static func kill(_ process: pid_t) {
        _ = clinux_kill(process, SIGKILL)
        var status: Int32 = 0
        while waitpid(process, &status, 0) < 0, clinux_errno() == EINTR {}
    }
}
