internal import AgentProtocol
internal import CLinux
internal import Linux
internal import Synchronization

/// Frames over one connected stream socket, with time limits.
///
/// All that arrives is taken for hostile.
///
/// One thread may receive while others send.
final class AgentConnection: Sendable {
    private struct Incoming {
        var decoder = FrameDecoder()
        var assembler = MessageAssembler(bytesMax: AgentLimits.replyBytesMax)
        var buffer = [UInt8](repeating: 0, count: AgentLimits.framePayloadBytesMax + Frame.headerBytes)
    }

    private let socket: OwnedDescriptor
    private let incoming = Mutex(Incoming())
    private let outgoing = Mutex(false)
    private let lastRequest = Atomic<UInt32>(0)

    /// Takes a connected socket and makes it non-blocking.
    init(adopting socket: consuming OwnedDescriptor) throws(AgentError) {
        do throws(SystemError) { try Socket.setNonBlocking(socket.rawValue) } catch { throw .system(error) }
        self.socket = socket
    }

    /// The socket's number, for `poll(2)`.
    var rawValue: Int32 { socket.rawValue }

    /// A request number not used before on this connection.
    func makeRequestNumber() -> UInt32 { lastRequest.wrappingAdd(1, ordering: .relaxed).newValue }

    /// A second descriptor of the socket.
    func duplicateSocket() throws(AgentError) -> OwnedDescriptor {
        do throws(SystemError) { return try socket.duplicate() } catch { throw .system(error) }
    }

    /// Ends the connection in both directions; whoever waits on it wakes up.
    func shutdown() { _ = clinux_shutdown(socket.rawValue, Int32(SHUT_RDWR)) }

    /// Sends a whole message.
    ///
    /// - Throws: `.timedOut`, `.disconnected` or `.system`; a message may then be half sent and the connection is unusable.
    func send(_ type: MessageType, request: UInt32, payload: [UInt8], _ deadline: Deadline, _ what: String) throws(AgentError) {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(payload.count + Frame.headerBytes)
        Frame.appendMessage(type, request: request, payload: payload, to: &bytes)
        try send(bytes: bytes, deadline, what)
    }

    /// Sends frames that are put together already.
    ///
    /// - Throws: as `send(_:request:payload:_:_:)`.
    func send(bytes: [UInt8], _ deadline: Deadline, _ what: String) throws(AgentError) {
        let error: AgentError? = outgoing.withLock { (broken: inout Bool) -> AgentError? in
            guard !broken else { return .disconnected(what) }
            do throws(AgentError) {
                try write(bytes, deadline, what)
                return nil
            } catch {
                broken = true
                return error
            }
        }
        if let error { throw error }
    }

    private func write(_ bytes: [UInt8], _ deadline: Deadline, _ what: String) throws(AgentError) {
        var sent = 0
        while sent < bytes.count {
            let result = bytes.withUnsafeBytes { clinux_send(socket.rawValue, $0.baseAddress.map { $0 + sent }, $0.count - sent) }
            switch Int32(truncatingIfNeeded: -result) {
            case _ where result > 0: sent += result
            case EAGAIN: try wait(for: Int16(POLLOUT), deadline, what)
            case EINTR: continue
            case EPIPE, ECONNRESET: throw .disconnected(what)
            default: throw .system(SystemError("send to", "the agent", errno: Errno(rawValue: Int32(truncatingIfNeeded: -result))))
            }
        }
    }

    private func wait(for events: Int16, _ deadline: Deadline, _ what: String) throws(AgentError) {
        while true {
            var entry = pollfd(fd: socket.rawValue, events: events, revents: 0)
            let count = poll(&entry, 1, deadline.pollMilliseconds)
            if count > 0 { return }
            if count == 0 { throw .timedOut(what) }
            let number = clinux_errno()
            guard number == EINTR else { throw .system(SystemError("wait for", "the agent", errno: Errno(rawValue: number))) }
        }
    }

    /// Receives the next whole message.
    ///
    /// - Parameter exact: reads no byte beyond the message, for a stream that turns raw afterwards.
    /// - Throws: any `AgentError`; after a fault the connection is unusable.
    func receive(_ deadline: Deadline, _ what: String, exact: Bool = false) throws(AgentError) -> Frame {
        while true {
            if let message = try receiveAvailable(what, exact: exact) { return message }
            try wait(for: Int16(POLLIN), deadline, what)
        }
    }

    /// The next whole message if it has arrived, else nil.
    ///
    /// - Throws: any `AgentError` but `.timedOut`.
    func receiveAvailable(_ what: String, exact: Bool = false) throws(AgentError) -> Frame? {
        let result: Result<Frame?, AgentError> = incoming.withLock { state in
            do throws(AgentError) {
                return .success(try advance(&state, what, exact: exact))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    private func advance(_ state: inout Incoming, _ what: String, exact: Bool) throws(AgentError) -> Frame? {
        while true {
            do throws(ProtocolFault) {
                while let frame = try state.decoder.next() {
                    guard !frame.type.isRequest else { throw ProtocolFault(.outOfOrder, at: 2) }
                    if let message = try state.assembler.add(frame) { return message }
                }
            } catch { throw .fault(error) }
            let limit = exact ? min(state.decoder.bytesMissing, state.buffer.count) : state.buffer.count
            let got = state.buffer.withUnsafeMutableBytes { clinux_read(socket.rawValue, $0.baseAddress, limit) }
            switch Int32(truncatingIfNeeded: -got) {
            case _ where got > 0: state.decoder.append(state.buffer[..<got])
            case EAGAIN: return nil
            case EINTR: continue
            case 0, ECONNRESET, EPIPE: throw .disconnected(what)
            default: throw .system(SystemError("receive from", "the agent", errno: Errno(rawValue: Int32(truncatingIfNeeded: -got))))
            }
        }
    }
}
