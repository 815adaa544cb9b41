public import AgentProtocol
internal import CLinux
internal import Linux

/// Joins a session with descriptors of this process until the program ends.
public enum ExecRelay {
    private static let chunkBytes = 65_536

    /// Relays until the program ends.
    ///
    /// `input` is nil when the program gets none.
    ///
    /// Blocks the calling thread. Output goes to `output` and `error` as it comes; a slow reader slows the program down.
    /// Signals and window changes may be sent through `session` from other threads meanwhile.
    ///
    /// - Throws: `AgentError`; `.system` when an output descriptor cannot be written.
    public static func run(_ session: ExecSession, input: Int32?, output: Int32, error: Int32) throws(AgentError) -> ExitStatus {
        var input = input
        var buffer = [UInt8](repeating: 0, count: chunkBytes)
        while true {
            while let event = try session.nextAvailable() {
                switch event {
                case .output(let bytes): try write(bytes, output, "standard output")
                case .error(let bytes): try write(bytes, error, "standard error")
                case .inputAllowed: break
                case .exited(let status): return status
                }
            }
            let credit = min(session.inputCredit, chunkBytes)
            let ready = try wait(session.pollDescriptor, credit > 0 ? input : nil)
            guard ready, let source = input else { continue }
            let got = buffer.withUnsafeMutableBytes { clinux_read(source, $0.baseAddress, credit) }
            if got == -Int(EAGAIN) || got == -Int(EINTR) { continue }
            if got > 0 {
                _ = try session.send(input: buffer[..<got])
            } else {
                // An input that fails ends like one that is finished: the program must not wait for it.
                try session.endInput()
                input = nil
            }
        }
    }

    /// Runs a program to its end with all input given at once, and collects at most `outputBytesMax` of each output stream.
    ///
    /// - Throws: `AgentError`; `.fault` with `.tooLong` when an output exceeds the limit.
    public static func collect(
        _ session: ExecSession, input: [UInt8]? = nil, outputBytesMax: Int = 16_777_216, timeout: Duration = .seconds(60)
    ) throws(AgentError) -> (status: ExitStatus, output: [UInt8], error: [UInt8]) {
        var output: [UInt8] = []
        var error: [UInt8] = []
        var rest = (input ?? [])[...]
        var inputOpen = input != nil
        let clock = ContinuousClock()
        let end = clock.now + timeout
        while true {
            if inputOpen {
                rest = rest.dropFirst(try session.send(input: rest))
                if rest.isEmpty {
                    try session.endInput()
                    inputOpen = false
                }
            }
            switch try session.next(timeout: clock.now.duration(to: end)) {
            case .output(let bytes): output += bytes
            case .error(let bytes): error += bytes
            case .inputAllowed: break
            case .exited(let status): return (status, output, error)
            }
            guard output.count <= outputBytesMax, error.count <= outputBytesMax else { throw .fault(ProtocolFault(.tooLong)) }
        }
    }

    /// Waits for the session or the input; true when the input is ready.
    ///
    /// Without a bound: a program may run for any time, and whoever waits for it ends the wait by a signal.
    private static func wait(_ session: Int32, _ input: Int32?) throws(AgentError) -> Bool {
        var entries = [pollfd(fd: session, events: Int16(POLLIN), revents: 0), pollfd(fd: input ?? -1, events: Int16(POLLIN), revents: 0)]
        while poll(&entries, 2, -1) < 0 {
            let number = clinux_errno()
            guard number == EINTR else { throw .system(SystemError("wait for", "the session", errno: Errno(rawValue: number))) }
        }
        return entries[1].revents != 0
    }

    private static func write(_ bytes: [UInt8], _ descriptor: Int32, _ what: String) throws(AgentError) {
        var written = 0
        while written < bytes.count {
            let result = bytes.withUnsafeBytes { clinux_write(descriptor, $0.baseAddress.map { $0 + written }, $0.count - written) }
            if result > 0 {
                written += result
            } else if result == -Int(EAGAIN) {
                var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                poll(&entry, 1, -1)
            } else if result != -Int(EINTR) {
                throw .system(SystemError("write", what, errno: Errno(rawValue: Int32(truncatingIfNeeded: -result))))
            }
        }
    }
}
