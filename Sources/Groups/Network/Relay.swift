internal import CLinux
internal import Linux
internal import Synchronization

/// Two stream sockets joined: what one sends the other gets, each direction ending on its own.
///
/// At most one buffer's worth is kept a direction: while a side does not take its data, the other is not read.
///
/// `@unchecked Sendable`: all state is touched on the loop's thread alone (`end` also after the loop has stopped).
final class Relay: @unchecked Sendable {
    private final class Side {
        let socket: SharedDescriptor
        var registration: EventLoop.Registration?
        var interest: EventLoop.Interest = []
        /// What the other side sent and this one has not taken, from `head` on.
        var pending: [UInt8] = []
        var head = 0
        /// This side sends nothing more.
        var hasEnded = false
        /// This side was told that nothing more comes.
        var isShutDown = false
        /// Both directions are closed: epoll would report it for ever, so the rest is read without being told.
        var isParked = false

        init(_ socket: SharedDescriptor) { self.socket = socket }
        var hasPending: Bool { head < pending.count }
    }

    private let client: Side
    private let guest: Side
    private var isConnecting: Bool
    private var isOver = false
    private let loop: EventLoop
    private let buffer: RelayBuffer
    private let onChange: @Sendable (Relay, Bool) -> Void

    /// - Parameter onChange: called when the client has got all it will get, and, with true, when both directions are over.
    init(
        client: SharedDescriptor, guest: SharedDescriptor, isConnecting: Bool, loop: EventLoop, buffer: RelayBuffer,
        onChange: @escaping @Sendable (Relay, _ isOver: Bool) -> Void
    ) {
        self.client = Side(client)
        self.guest = Side(guest)
        self.isConnecting = isConnecting
        self.loop = loop
        self.buffer = buffer
        self.onChange = onChange
    }

    func start() {
        do throws(SystemError) {
            for side in [client, guest] {
                side.interest = wanted(side)
                let isClient = side === client
                side.registration = try loop.register(side.socket.rawValue, side.interest) { [weak self] found in
                    self?.ready(isClient: isClient, found)
                }
            }
        } catch {
            end(reset: true)
        }
    }

    private func ready(isClient: Bool, _ found: EventLoop.Interest) {
        guard !isOver else { return }
        let (side, other) = isClient ? (client, guest) : (guest, client)
        if isConnecting, side === guest {
            guard Socket.error(of: side.socket.rawValue) == nil else { return end(reset: true) }
            isConnecting = false
        }
        if found.contains(.writable) { flush(side, from: other) }
        if !found.isDisjoint(with: [.readable, .closed]), !isOver {
            if other.hasPending || isConnecting {
                park(side, found)
            } else {
                move(from: side, to: other)
            }
        }
        if !isOver { settle() }
    }

    /// Reads once and writes on at once; what is not taken is kept.
    private func move(from side: Side, to other: Side) {
        guard !side.hasEnded else { return park(side, .closed) }
        let count = clinux_recv(side.socket.rawValue, buffer.pointer, RelayBuffer.bytes)
        if count == -Int(EAGAIN) || count == -Int(EINTR), !side.isParked { return }
        guard count >= 0 else { return end(reset: true) }
        if count == 0 {
            side.hasEnded = true
            return
        }
        let sent = clinux_send(other.socket.rawValue, buffer.pointer, count)
        guard sent >= 0 || sent == -Int(EAGAIN) || sent == -Int(EINTR) else { return end(reset: true) }
        let taken = max(0, sent)
        note(taken, for: other)
        guard taken < count else { return }
        other.pending = Array(UnsafeRawBufferPointer(start: buffer.pointer + taken, count: count - taken))
        other.head = 0
    }

    private func flush(_ side: Side, from source: Side) {
        while side.hasPending {
            let sent = side.pending.withUnsafeBytes { bytes in
                clinux_send(side.socket.rawValue, bytes.baseAddress.map { $0 + side.head }, bytes.count - side.head)
            }
            if sent == -Int(EAGAIN) || sent == -Int(EINTR) { return }
            guard sent >= 0 else { return end(reset: true) }
            side.head += sent
            note(sent, for: side)
            if !side.hasPending { side.pending = [] }
            if side.pending.isEmpty { side.head = 0 }
            if !side.hasPending, source.isParked, !source.hasEnded { move(from: source, to: side) }
            if isOver { return }
        }
    }

    private func note(_ taken: Int, for side: Side) {
        guard side === client else { return }
        buffer.answeredBytes.wrappingAdd(UInt64(taken), ordering: .relaxed)
    }

    /// A side reports that it is closed while the other cannot take more.
    private func park(_ side: Side, _ found: EventLoop.Interest) {
        guard !found.isDisjoint(with: .closed) else { return }
        if Socket.error(of: side.socket.rawValue) != nil { return end(reset: true) }
        side.isParked = true
        unregister(side)
    }

    /// Passes ends on, ends the relay when both directions have, and tells the loop what is waited for now.
    private func settle() {
        for (side, other) in [(client, guest), (guest, client)] {
            while side.isParked, !side.hasEnded, !other.hasPending, !isOver { move(from: side, to: other) }
            if isOver { return }
            if side.hasEnded, !other.hasPending, !other.isShutDown {
                other.isShutDown = true
                _ = clinux_shutdown(other.socket.rawValue, Int32(SHUT_WR))
                if other === client { onChange(self, false) }
            }
        }
        if client.isShutDown, guest.isShutDown { return end(reset: false) }
        for side in [client, guest] {
            if side.hasEnded, side.isShutDown {
                unregister(side)
                continue
            }
            let interest = wanted(side)
            guard let registration = side.registration, interest != side.interest else { continue }
            side.interest = interest
            try? loop.change(registration, to: interest)
        }
    }

    private func wanted(_ side: Side) -> EventLoop.Interest {
        if isConnecting { return side === guest ? .writable : [] }
        let other = side === client ? guest : client
        var interest: EventLoop.Interest = []
        if !side.hasEnded, !other.hasPending { interest.insert(.readable) }
        if side.hasPending { interest.insert(.writable) }
        return interest
    }

    private func unregister(_ side: Side) {
        if let registration = side.registration { loop.unregister(registration) }
        side.registration = nil
    }

    /// Closes both sides; `reset` tells the peers that data may be lost.
    func end(reset: Bool) {
        guard !isOver else { return }
        isOver = true
        for side in [client, guest] {
            unregister(side)
            if reset { _ = clinux_socket_reset_on_close(side.socket.rawValue) }
        }
        onChange(self, true)
    }

    /// Closes both sides before they have ended: a client that got all it will get is not told that data was lost.
    func cut() {
        guard !isOver else { return }
        // A guest that is another one by now must not take what comes from here for the rest of what it had.
        _ = clinux_socket_reset_on_close(guest.socket.rawValue)
        end(reset: !client.isShutDown)
    }

    /// The connection to the guest, as TCP knows it; nil for one that is none.
    var guestConnection: HalfOpenConnection? { HalfOpenConnection(of: guest.socket.rawValue) }
}
