internal import CLinux
import Linux

/// Stream sockets between host and guest (virtio 1.2, section 5.10).
///
/// On the host's side a Unix socket at `path` takes clients, who say `CONNECT port`; a guest that connects to port P of
/// the host reaches the Unix socket `path_P`. Processes of the VMM itself use `connect(to:)`.
final class VsockDevice: VirtioDevice {
    typealias State = VsockState

    /// Connections of all kinds at one time.
    static let connectionsMax = 1024
    /// Control packets that wait for the guest to make room.
    static let controlPacketsMax = 4096
    /// How long a guest may think about a connection, and a client about its greeting.
    static let answerMillisecondsMax: Int64 = 5000
    /// Host ports given to connections made by the host, upwards from here.
    static let firstHostPort: UInt32 = 0x4000_0000

    static let receiveQueue = 0
    static let transmitQueue = 1
    static let eventQueue = 2

    /// A reset of all connections, of which the guest is told by an event (virtio 1.2, section 5.10.6.7).
    enum TransportReset {
        case none
        /// The guest has to be told, and has given no buffer for it yet.
        case due
        /// It was told. Until it has given the event's buffer back, it may take any connection for an old one.
        case told
    }

    let type = VirtioDeviceType.vsock
    let features: UInt64 = 1  // VIRTIO_VSOCK_F_STREAM
    let queueSizeMaxima: [UInt16] = [256, 256, 16]

    let guestContext: UInt64
    let path: String?
    var listener: VsockListener?
    var timer: VsockTimer?
    var bySocket: [Int32: VsockConnection] = [:]
    var byKey: [VsockKey: VsockConnection] = [:]
    /// Connections whose data could not be read because the guest had no buffers.
    var starved: Set<Int32> = []
    /// Packets without data, in the order they are due.
    var control: [VsockHeader] = []
    var transportReset = TransportReset.none
    /// Connections, by their sockets, for which the guest is asked once it has carried out a transport reset.
    var held: [Int32] = []
    var nextHostPort = VsockDevice.firstHostPort

    let chain = DescriptorChain()
    var vectors = IOVectors()

    /// - Parameters:
    ///   - guestContext: the guest's context identifier; 3 or more.
    ///   - path: where clients connect; nil for connections from inside the process alone.
    init(guestContext: UInt64, path: String?) {
        self.guestContext = guestContext
        self.path = path
    }

    var configuration: [UInt8] {
        var bytes: [UInt8] = []
        bytes.append(littleEndian: guestContext)
        return bytes
    }

    func attached(to link: DeviceLink) throws(SystemError) {
        let timer = try VsockTimer()
        try link.host?.watch(timer.descriptor, .readable)
        self.timer = timer
        guard let path else { return }
        let listener = try VsockListener(path: path)
        try link.host?.watch(listener.descriptor, .readable)
        self.listener = listener
    }

    func notified(queue: Int, _ link: DeviceLink) throws(VirtioError) {
        switch queue {
        case Self.receiveQueue: try pump(link)
        case Self.eventQueue: try serveEvents(link)
        default:
            guard let transmit = link.queue(queue) else { return }
            try link.serve(transmit, with: chain) { chain throws(VirtioError) in
                try received(chain, link)
                return 0
            }
            try pump(link)
        }
    }

    func ready(_ descriptor: Int32, _ events: EventLoop.Interest, _ link: DeviceLink) throws(VirtioError) {
        if descriptor == listener?.descriptor {
            acceptClients(link)
        } else if descriptor == timer?.descriptor {
            expire(link)
        } else if let connection = bySocket[descriptor] {
            if connection.phase == .greeting {
                greet(connection, link)
            } else {
                try serve(connection, events, link)
            }
        }
        try pump(link)
    }

    private func serve(_ connection: VsockConnection, _ events: EventLoop.Interest, _ link: DeviceLink) throws(VirtioError) {
        if events.contains(.writable) { flush(connection, link) }
        guard bySocket[connection.socket.rawValue] === connection else { return }
        if connection.wantedInterest.contains(.readable) {
            try forward(connection, link)
        } else if !events.isDisjoint(with: .closed), connection.backlog.isEmpty {
            hostClosed(connection, link)
        }
    }

    /// Tells the guest that its connections are gone, as soon as it has a buffer for that; once it has carried that out, asks it
    /// for the connections that were wanted meanwhile.
    private func serveEvents(_ link: DeviceLink) throws(VirtioError) {
        guard let events = link.queue(Self.eventQueue) else { return }
        if transportReset == .due {
            guard try events.pop(into: chain) else {
                if events.enableNotifications() { link.host?.serveAgain(queue: Self.eventQueue) }
                return
            }
            chain.store(UInt32(0), at: 0)  // VIRTIO_VSOCK_EVENT_TRANSPORT_RESET
            events.complete(head: chain.head, written: min(4, chain.writableCount))
            transportReset = .told
            link.publish(events)
        }
        // The driver gives a buffer back after it has dealt with the event in it.
        guard transportReset == .told, events.enableNotificationsOfMore() else { return }
        transportReset = .none
        askForHeld(link)
        try pump(link)
    }

    func reset(_ link: DeviceLink) {
        for connection in bySocket.values { close(connection, link, reason: .notReady) }
        control = []
        starved = []
        held = []
        transportReset = .none
    }

    // MARK: - State

    func save() -> State {
        State(guestContext: guestContext, isResetPending: transportReset != .none, nextHostPort: nextHostPort)
    }

    /// Whatever connections the state had, they are gone.
    func load(_ state: State) throws(DeviceStateError) {
        guard state.guestContext == guestContext else {
            throw DeviceStateError(device: "vsock", reason: "its guest has context \(state.guestContext), this one \(guestContext)")
        }
        guard state.nextHostPort >= Self.firstHostPort, state.nextHostPort < .max else {
            throw DeviceStateError(device: "vsock", reason: "its next host port is \(state.nextHostPort)")
        }
        nextHostPort = state.nextHostPort
        transportReset = .due
    }

    static func wrap(_ state: TransportState<State>) -> VirtioDeviceState { .vsock(state) }
    static func unwrap(_ state: VirtioDeviceState) -> TransportState<State>? {
        if case .vsock(let state) = state { state } else { nil }
    }
}
