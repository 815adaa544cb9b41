internal import AgentProtocol
internal import CLinux
internal import Linux

/// A stream of agent protocol frames on an event loop.
///
/// All its methods are called on the loop's thread.
///
/// `@unchecked Sendable`: the state is touched on the loop's thread alone.
final class FrameChannel: @unchecked Sendable {
    /// What happens on a channel.
    enum Happening {
        case frame(Frame)
        /// The queue of output fell below its limit again.
        case hasRoom
        /// The peer is gone, or broke the protocol; nothing follows.
        case closed(String?)
    }

    /// Output that may wait before whoever produces it is held back, in bytes.
    static let queueBytesMax = 256 << 10

    private let socket: SharedDescriptor
    private let loop: EventLoop
    private var handler: ((Happening) -> Void)?
    private var registration: EventLoop.Registration?
    private var decoder = FrameDecoder()
    private var queue: [UInt8] = []
    private var head = 0
    private var isReadingPaused = false
    private var closesWhenFlushed = false
    private var chunk = [UInt8](repeating: 0, count: 65536)

    /// Takes over a connected socket.
    init(_ socket: SharedDescriptor, loop: EventLoop) {
        self.socket = socket
        self.loop = loop
    }

    /// Begins to read.
    func start(_ handler: @escaping (Happening) -> Void) throws(SystemError) {
        self.handler = handler
        try Socket.setNonBlocking(socket.rawValue)
        registration = try loop.register(socket.rawValue, interest) { [weak self] found in self?.ready(found) }
    }

    var isOpen: Bool { registration != nil }
    var hasRoom: Bool { queue.count - head < FrameChannel.queueBytesMax }

    /// Queues a message and sends what the socket takes.
    func send(_ type: MessageType, request: UInt32, payload: [UInt8] = []) {
        guard isOpen, !closesWhenFlushed else { return }
        if head > 0, head == queue.count {
            queue.removeAll(keepingCapacity: true)
            head = 0
        }
        Frame.appendMessage(type, request: request, payload: payload, to: &queue)
        flush()
    }

    /// Stops or resumes reading.
    func pauseReading(_ paused: Bool) {
        guard isReadingPaused != paused else { return }
        isReadingPaused = paused
        update()
    }

    /// Closes once everything queued is sent.
    func closeAfterFlush() {
        closesWhenFlushed = true
        flush()
    }

    /// Ends the channel; the handler is told.
    func close(_ reason: String? = nil) {
        guard let registration else { return }
        loop.unregister(registration)
        self.registration = nil
        let handler = handler
        self.handler = nil
        handler?(.closed(reason))
    }

    /// Ends the channel; nobody is told.
    func abandon() {
        handler = nil
        close()
    }

    private var interest: EventLoop.Interest {
        var interest: EventLoop.Interest = isReadingPaused || closesWhenFlushed ? [] : .readable
        if head < queue.count { interest.insert(.writable) }
        return interest
    }

    private func update() {
        guard let registration else { return }
        try? loop.change(registration, to: interest)
    }

    private func ready(_ found: EventLoop.Interest) {
        if found.contains(.writable) { flush() }
        guard isOpen, !found.isDisjoint(with: [.readable, .closed]) else { return }
        // With reading paused, a closed peer is noticed by the error alone and what it still sent is of no use.
        if isReadingPaused, found.isDisjoint(with: .readable) { return close() }
        receive()
    }

    private func flush() {
        guard isOpen else { return }
        let hadRoom = hasRoom
        while head < queue.count {
            let sent = queue.withUnsafeBytes { clinux_send(socket.rawValue, $0.baseAddress.map { $0 + head }, $0.count - head) }
            if sent == -Int(EAGAIN) || sent == -Int(EINTR) { break }
            guard sent > 0 else { return close() }
            head += sent
        }
        if head == queue.count {
            queue.removeAll(keepingCapacity: queue.capacity <= FrameChannel.queueBytesMax)
            head = 0
            if closesWhenFlushed { return close() }
        }
        update()
        if !hadRoom, hasRoom { handler?(.hasRoom) }
    }

    private func receive() {
        let count = clinux_recv(socket.rawValue, &chunk, chunk.count)
        if count == -Int(EAGAIN) || count == -Int(EINTR) { return }
        guard count > 0 else { return close() }
        decoder.append(chunk[..<count])
        do throws(ProtocolFault) {
            while isOpen, let frame = try decoder.next() { handler?(.frame(frame)) }
        } catch {
            close("\(error)")
        }
    }
}
