internal import CLinux
public import Linux
import Synchronization

/// Continues connections to published ports inside the guest, on one event loop thread.
public final class PortForwarder: Sendable {
    /// How the guest's ports are reached.
    public enum Route: Sendable {
        /// TCP to an address, made in the namespace the process is in.
        case direct(address: UInt32)
        /// A function that connects and may block; it is called on threads of its own.
        case proxy(@Sendable (UInt16) throws -> OwnedDescriptor)
    }

    /// The most connections at once over all ports of a group; more are closed at once.
    public static let connectionsMax = 4096

    private let loop: EventLoop
    private let route: Route
    private let table: RelayTable
    private let registrations = Mutex<[EventLoop.Registration]>([])
    /// Open until there are none any more.
    private let listeners: Mutex<[PortListener]>
    /// Connections that a function is asked for just now.
    private let dialingCount = Atomic<Int>(0)
    /// Resets there were: a connection that was asked for before the last one leads to a guest of another time.
    private let resets = Atomic<UInt64>(0)

    /// Starts to accept connections.
    ///
    /// - Throws: `SystemError` when the process has no room for threads or descriptors.
    public init(listeners: [PortListener], route: Route) throws(SystemError) {
        self.listeners = Mutex(listeners)
        self.route = route
        loop = try EventLoop(name: "ports")
        table = RelayTable(loop: loop)
        for listener in listeners {
            let registration = try loop.register(listener.socket.rawValue) { [weak self] _ in self?.accept(listener) }
            registrations.withLock { $0.append(registration) }
        }
    }

    /// How many connections there are.
    public var connectionCount: Int { table.count }

    /// Connections whose clients may get something yet, and bytes that clients have taken: while the first is not zero and the
    /// second grows it is worth waiting.
    public var answering: (connections: Int, bytes: UInt64) {
        // In this order: what leaves the first count is in the other by then.
        let dialing = dialingCount.load(ordering: .sequentiallyConsistent)
        return (dialing + table.answeringCount, table.answeredBytes)
    }

    /// Accepts no more connections; those that are there go on.
    public func stopAccepting() {
        let former = registrations.withLock { registrations in
            defer { registrations = [] }
            return registrations
        }
        for registration in former { loop.unregister(registration) }
    }

    /// Resets all connections at both ends: the guest is about to be another one, which must neither wait for them nor go on with them.
    ///
    /// To be called while the guest stands still; not on the thread of the connections.
    public func resetConnections() {
        loop.quiesce()
        resets.add(1, ordering: .sequentiallyConsistent)
        let connections = table.removeAll()
        loop.resume()
        HalfOpenConnection.probe(connections)
    }

    /// Ends all connections and the thread, and frees the host's ports, unless others have the listeners, too.
    public func stop() {
        stopAccepting()
        loop.stop()
        table.removeAll()
        listeners.withLock { $0 = [] }
    }

    private func accept(_ listener: PortListener) {
        // A few at a time, so that a flood of connections does not starve those that are there.
        for _ in 0..<16 {
            let result = clinux_accept_nonblocking(listener.socket.rawValue)
            if result == -Int(EMFILE) || result == -Int(ENFILE) { return pauseAccepting() }
            guard result >= 0, let number = Int32(exactly: result) else { return }
            let client = SharedDescriptor(OwnedDescriptor(adopting: number))
            guard table.count < PortForwarder.connectionsMax else { continue }
            _ = clinux_socket_option(number, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
            dial(client, port: listener.mapping.guestPort)
        }
    }

    private func dial(_ client: SharedDescriptor, port: UInt16) {
        switch route {
        case .direct(let address):
            guard let guest = try? Socket.beginConnecting(address: address, port: port) else { return RelayTable.refuse(client) }
            _ = clinux_socket_option(guest.rawValue, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
            table.start(client: client, guest: SharedDescriptor(guest), isConnecting: true)
        case .proxy(let connect):
            let table = table
            let loop = loop
            let resetsBefore = resets.load(ordering: .sequentiallyConsistent)
            dialingCount.add(1, ordering: .sequentiallyConsistent)
            let dialed: @Sendable () -> Void = { [weak self] in self?.dialingCount.subtract(1, ordering: .sequentiallyConsistent) }
            let started: ()? = try? DetachedThread.start("port-proxy") {
                guard let guest = try? connect(port) else {
                    dialed()
                    return RelayTable.refuse(client)
                }
                let shared = SharedDescriptor(guest)
                guard (try? Socket.setNonBlocking(shared.rawValue)) != nil else { return dialed() }
                loop.run { [weak self] in
                    // Asked where a reset finds what was started before it.
                    if self?.resets.load(ordering: .sequentiallyConsistent) == resetsBefore {
                        table.start(client: client, guest: shared, isConnecting: false)
                    } else {
                        RelayTable.refuse(client)
                    }
                    dialed()
                }
            }
            if started == nil {
                dialed()
                RelayTable.refuse(client)
            }
        }
    }

    /// Out of descriptors: the listener stays readable, so waiting a little keeps the loop from spinning.
    private func pauseAccepting() { usleep(1000) }
}
