import CLinux
import Linux

/// The output of a child process, read as it comes; the child ends with its owner.
final class ChildOutput {
    private static let messageBytesMax = 500
    /// How the package managers that make a runtime's image reach their archives, as the user has set it up.
    private static let variables: Set<String> = [
        "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "PIP_CERT", "PIP_CONFIG_FILE", "PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL", "PIP_TRUSTED_HOST",
        "REQUESTS_CA_BUNDLE", "SSL_CERT_DIR", "SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy",
    ]

    private let output: SharedDescriptor
    private let messages: OwnedDescriptor
    private var process: pid_t = 0

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
        process = try ProgramStart(
            command[0], [name ?? command[0]] + command.dropFirst(),
            environment: OwnProcess.passedEnvironment(also: ChildOutput.variables)
        ).start([(input.rawValue, 0), (writing.rawValue, 1), (messages.rawValue, 2)])
        // Until here: the numbers are in use.
        _ = (input.rawValue, writing.rawValue)
    }

    deinit { if process > 0 { ChildOutput.kill(process) } }

    /// The next bytes; none when the child has closed its output.
    ///
    /// - Parameter deadline: when waiting ends, by the monotonic clock, milliseconds.
    /// - Throws: `SystemError`, `ETIMEDOUT` at the deadline.
    func read(_ count: Int, until deadline: Int64) throws(SystemError) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: count)
        let number = output.rawValue
        var entry = pollfd(fd: number, events: Int16(POLLIN), revents: 0)
        while true {
            let left = deadline - clinux_monotonic_milliseconds()
            guard left > 0 else { throw SystemError("wait for", "a program's output", errno: Errno(rawValue: ETIMEDOUT)) }
            if clinux_poll(&entry, 1, Int32(min(left, 60_000))) > 0 { break }
        }
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
