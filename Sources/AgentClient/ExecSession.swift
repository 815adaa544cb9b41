public import AgentProtocol
internal import Linux
internal import Synchronization

/// What happens in a session.
public enum SessionEvent: Equatable, Sendable {
    /// Bytes of standard output, or of the terminal.
    case output([UInt8])
    /// Bytes of standard error.
    case error([UInt8])
    /// More standard input may be sent.
    case inputAllowed
    /// The program ended; nothing follows.
    case exited(ExitStatus)
}

/// A program running in the guest and its streams.
///
/// One thread takes events; any thread may send input, resize and signal. Dropping the session ends the connection: a
/// program that does not survive its client is then hung up.
public final class ExecSession: Sendable {
    /// The program's process number in the guest, by which other connections can signal or attach to it.
    public let processNumber: Int32
    private let connection: AgentConnection
    private let request: UInt32
    private let credit: Mutex<Int>

    init(_ connection: AgentConnection, request: UInt32, _ processNumber: Int32, credit: Int) {
        self.connection = connection
        self.request = request
        self.processNumber = processNumber
        self.credit = Mutex(credit)
    }

    deinit { connection.shutdown() }

    /// The socket's number: readable when `nextAvailable` may have something.
    public var pollDescriptor: Int32 { connection.rawValue }

    /// Bytes of standard input that may be sent now.
    public var inputCredit: Int { credit.withLock { $0 } }

    /// Waits for the next event; nil waits without limit.
    ///
    /// - Throws: `AgentError`.
    public func next(timeout: Duration? = nil) throws(AgentError) -> SessionEvent {
        let deadline = Deadline(after: timeout)
        while true {
            let frame = try connection.receive(deadline, "follow session \(processNumber)")
            if let event = try event(frame) { return event }
        }
    }

    /// The next event if it has arrived, else nil.
    ///
    /// - Throws: `AgentError`.
    public func nextAvailable() throws(AgentError) -> SessionEvent? {
        while let frame = try connection.receiveAvailable("follow session \(processNumber)") {
            if let event = try event(frame) { return event }
        }
        return nil
    }

    /// Sends standard input, as much as the agent has granted; returns how many bytes that was.
    ///
    /// - Throws: `AgentError`.
    public func send(input: some Collection<UInt8>) throws(AgentError) -> Int {
        let count = credit.withLock { available -> Int in
            let taken = min(available, input.count)
            available -= taken
            return taken
        }
        var rest = input.prefix(count)
        while !rest.isEmpty {
            let piece = [UInt8](rest.prefix(AgentLimits.framePayloadBytesMax))
            try post(.stdin, piece)
            rest = rest.dropFirst(piece.count)
        }
        return count
    }

    /// Says that no more input comes.
    ///
    /// - Throws: `AgentError`.
    public func endInput() throws(AgentError) { try post(.stdinEnd, []) }

    /// Tells the terminal its new size.
    ///
    /// - Throws: `AgentError`.
    public func resize(_ size: WindowSize) throws(AgentError) { try post(.resize, size.encoded) }

    /// Sends a signal to the program, or to its whole process group.
    ///
    /// - Throws: `AgentError`. That the program has ended meanwhile is no error.
    public func signal(_ number: Int32, wholeGroup: Bool = false) throws(AgentError) {
        let body = SignalRequest(signal: number, wholeGroup: wholeGroup).encoded
        try connection.send(
            .signal, request: connection.makeRequestNumber(), payload: body, Deadline(after: AgentClient.defaultTimeout), "send a signal")
    }

    private func post(_ type: MessageType, _ payload: [UInt8]) throws(AgentError) {
        try connection.send(type, request: request, payload: payload, Deadline(after: AgentClient.defaultTimeout), "reach the session")
    }

    private func event(_ frame: Frame) throws(AgentError) -> SessionEvent? {
        if frame.type == .failed, frame.request == request || frame.request == 0 { throw .refused(try AgentClient.decode(frame.payload)) }
        // Answers to signals: whether the program was still there does not matter here.
        if frame.request != request {
            guard frame.type == .done || frame.type == .failed else { throw .fault(ProtocolFault(.outOfOrder, at: 4)) }
            return nil
        }
        switch frame.type {
        case .stdout: return .output(frame.payload)
        case .stderr: return .error(frame.payload)
        case .exited: return .exited(try AgentClient.decode(frame.payload))
        case .stdinCredit:
            let granted: StdinCredit = try AgentClient.decode(frame.payload)
            let valid = credit.withLock { available -> Bool in
                guard available + Int(granted.bytes) <= AgentLimits.stdinWindowBytes else { return false }
                available += Int(granted.bytes)
                return true
            }
            guard valid else { throw .fault(ProtocolFault(.windowExceeded)) }
            return .inputAllowed
        default: throw .fault(ProtocolFault(.outOfOrder, at: 2))
        }
    }
}
