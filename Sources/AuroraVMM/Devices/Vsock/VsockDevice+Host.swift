internal import CLinux
import Linux

/// Sockets of the host: clients, callers inside the process, and the end of connections.
extension VsockDevice {
    // MARK: - Clients

    func acceptClients(_ link: DeviceLink) {
        while let listener, let socket = listener.accept() {
            // Without a driver nobody can be asked, and without room nobody should: closing says so.
            guard link.queue(Self.receiveQueue) != nil, bySocket.count < Self.connectionsMax else { continue }
            let connection = VsockConnection(
                socket: socket, key: VsockKey(hostPort: 0, guestPort: 0), phase: .greeting, waiter: .client)
            wait(connection)
            bySocket[connection.socket.rawValue] = connection
            updateInterest(connection, link)
        }
    }

    /// Reads a client's `CONNECT port` line, and not a byte beyond it: what follows belongs to the guest.
    func greet(_ connection: VsockConnection, _ link: DeviceLink) {
        switch VsockListener.readGreeting(connection.socket.rawValue) {
        case .incomplete: break
        case .bad: close(connection, link, reason: .notReady)
        case .port(let port):
            guard ask(connection, port: port, link) else { return close(connection, link, reason: .tooMany) }
        }
    }

    // MARK: - Callers inside the process

    /// Makes a connection for the VMM itself; `report` is called once, with nil when it stands.
    ///
    /// - Returns: the caller's end.
    func connect(to port: UInt32, _ link: DeviceLink, _ report: @escaping @Sendable (VsockError?) -> Void) throws(VsockError) -> Int32 {
        var pair: [Int32] = [-1, -1]
        let result = cdevice_socketpair(&pair)
        guard result == 0 else {
            throw .host(SystemError("create", "a socket pair", errno: Errno(rawValue: Int32(truncatingIfNeeded: -result))))
        }
        let far = OwnedDescriptor(adopting: pair[1])
        try lead(OwnedDescriptor(adopting: pair[0]), to: port, link, .caller(report))
        return far.release()
    }

    /// Connects a socket of the host to a port of the guest; it is closed when that fails.
    func lead(
        _ socket: consuming OwnedDescriptor, to port: UInt32, _ link: DeviceLink, _ waiter: VsockConnection.Waiter
    ) throws(VsockError) {
        guard link.queue(Self.receiveQueue) != nil else { throw .notReady }
        guard bySocket.count < Self.connectionsMax else { throw .tooMany }
        let connection = VsockConnection(socket: socket, key: VsockKey(hostPort: 0, guestPort: 0), phase: .greeting, waiter: waiter)
        bySocket[connection.socket.rawValue] = connection
        guard ask(connection, port: port, link) else {
            connection.waiter = .nobody
            close(connection, link, reason: .tooMany)
            throw .tooMany
        }
    }

    /// Asks the guest for a connection to one of its ports.
    private func ask(_ connection: VsockConnection, port: UInt32, _ link: DeviceLink) -> Bool {
        guard let hostPort = freeHostPort(guestPort: port) else { return false }
        connection.key = VsockKey(hostPort: hostPort, guestPort: port)
        connection.phase = .connecting
        // Without a queue for events the guest cannot be told, and will not reset.
        if transportReset != .none, link.queue(Self.eventQueue) != nil {
            held.append(connection.socket.rawValue)
        } else {
            guard queue(.request, for: connection) else { return false }
        }
        wait(connection)
        add(connection)
        updateInterest(connection, link)
        return true
    }

    /// Asks for the connections that waited for the end of a transport reset, as far as they still wait.
    func askForHeld(_ link: DeviceLink) {
        let sockets = held
        held = []
        for connection in sockets.compactMap({ bySocket[$0] }) where connection.phase == .connecting {
            if !queue(.request, for: connection) { close(connection, link, reason: .tooMany) }
        }
    }

    private func freeHostPort(guestPort: UInt32) -> UInt32? {
        for _ in 0...Self.connectionsMax {
            let port = nextHostPort
            nextHostPort = nextHostPort == .max - 1 ? Self.firstHostPort : nextHostPort + 1
            if byKey[VsockKey(hostPort: port, guestPort: guestPort)] == nil { return port }
        }
        return nil
    }

    // MARK: - Book-keeping

    func add(_ connection: VsockConnection) {
        bySocket[connection.socket.rawValue] = connection
        byKey[connection.key] = connection
    }

    func wait(_ connection: VsockConnection) {
        connection.deadline = cdevice_monotonic_ms() + Self.answerMillisecondsMax
        timer?.isArmed = true
    }

    /// Tells the kernel what is waited for now.
    ///
    /// Nothing at all must mean not watched: a hang-up is always reported.
    func updateInterest(_ connection: VsockConnection, _ link: DeviceLink) {
        let socket = connection.socket.rawValue
        var wanted = connection.wantedInterest
        if starved.contains(socket) { wanted.remove(.readable) }
        guard wanted != connection.interest else { return }
        connection.interest = wanted
        if wanted.isEmpty { return link.host?.unwatch(socket) ?? () }
        do throws(SystemError) { try link.host?.watch(socket, wanted) } catch {
            abort(connection, link, .host(error))
        }
    }

    /// The host's socket takes data again.
    func flush(_ connection: VsockConnection, _ link: DeviceLink) {
        guard connection.drain() else { return abort(connection, link, .refused(port: connection.key.guestPort)) }
        if connection.owesCreditUpdate { queueCreditUpdate(connection) }
        finishIfDrained(connection, link)
        if bySocket[connection.socket.rawValue] === connection { updateInterest(connection, link) }
    }

    /// The host's socket has no more to give: the guest reads an end of file, and may still send if somebody listens.
    func hostEnded(_ connection: VsockConnection) {
        connection.isHostDone = true
        connection.isHostClosed = cdevice_is_hung_up(connection.socket.rawValue) != 0
        let what: VsockShutdown = connection.isHostClosed ? .both : .send
        _ = queue(.shutdown, for: connection, flags: what.rawValue)
        if connection.isHostClosed { wait(connection) }
    }

    /// The host's socket is gone both ways.
    func hostClosed(_ connection: VsockConnection, _ link: DeviceLink) {
        guard connection.phase == .established else { return close(connection, link, reason: .notReady) }
        connection.isHostDone = true
        if !connection.isHostClosed {
            connection.isHostClosed = true
            _ = queue(.shutdown, for: connection, flags: VsockShutdown.both.rawValue)
            wait(connection)
        }
        updateInterest(connection, link)
    }

    /// Ends a connection that went wrong, telling the guest.
    func abort(_ connection: VsockConnection, _ link: DeviceLink, _ reason: VsockError) {
        if connection.phase == .connecting || connection.phase == .established { _ = queue(.reset, for: connection) }
        close(connection, link, reason: reason)
    }

    /// Forgets a connection and closes its socket.
    func close(_ connection: VsockConnection, _ link: DeviceLink, reason: VsockError) {
        let socket = connection.socket.rawValue
        link.host?.unwatch(socket)
        bySocket[socket] = nil
        starved.remove(socket)
        held.removeAll { $0 == socket }
        if byKey[connection.key] === connection { byKey[connection.key] = nil }
        if case .caller(let report) = connection.waiter { report(reason) }
        connection.waiter = .nobody
    }

    /// Ends what has waited too long for the guest, or for a client's greeting.
    func expire(_ link: DeviceLink) {
        timer?.drain()
        let now = cdevice_monotonic_ms()
        for connection in Array(bySocket.values) {
            guard let deadline = connection.deadline, deadline <= now else { continue }
            abort(connection, link, .timedOut(port: connection.key.guestPort))
        }
        if bySocket.values.allSatisfy({ $0.deadline == nil }) { timer?.isArmed = false }
    }
}

extension MMIOTransport where Device == VsockDevice {
    /// Connects to a port of the guest.
    ///
    /// - Returns: a connected stream socket.
    /// - Throws: `VsockError`, at the latest after `VsockDevice.answerMillisecondsMax`.
    func connect(port: UInt32) async throws(VsockError) -> OwnedDescriptor {
        let outcome: Result<Int32, VsockError> = await withCheckedContinuation { continuation in
            let reply = VsockReply(continuation)
            do throws(VsockError) {
                try withDevice { device, link throws(VsockError) in
                    reply.descriptor = try device.connect(to: port, link) { reply.finish($0) }
                }
                whenRunning { device, link throws(VirtioError) in try device.pump(link) }
            } catch { reply.finish(error) }
        }
        return OwnedDescriptor(adopting: try outcome.get())
    }

    /// Leads a socket of the host to a port of the guest; it is closed when that fails.
    ///
    /// - Throws: `VsockError` when the guest cannot be asked at all.
    func lead(_ socket: Int32, to port: UInt32) throws(VsockError) {
        try withDevice { device, link throws(VsockError) in
            try device.lead(OwnedDescriptor(adopting: socket), to: port, link, .nobody)
        }
        whenRunning { device, link throws(VirtioError) in try device.pump(link) }
    }
}
