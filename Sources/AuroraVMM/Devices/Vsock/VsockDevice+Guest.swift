internal import CLinux
import Linux

/// Packets to and from the guest.
extension VsockDevice {
    // MARK: - From the guest

    /// Carries out one packet of the guest.
    func received(_ chain: DescriptorChain, _ link: DeviceLink) throws(VirtioError) {
        guard let header = VsockHeader(chain) else {
            throw .badRequest(queue: Self.transmitQueue, what: "a vsock packet has no header")
        }
        let count = Int(header.length)
        guard count <= chain.readableCount - VsockHeader.byteCount else {
            throw .badRequest(queue: Self.transmitQueue, what: "a vsock packet tells \(count) bytes but has fewer")
        }
        // Packets from or to somebody else are dropped: there is nobody to answer.
        guard header.sourceContext == guestContext, header.targetContext == VsockHeader.hostContext else { return }
        let key = VsockKey(hostPort: header.targetPort, guestPort: header.sourcePort)
        let operation = VsockHeader.Operation(rawValue: header.operation)
        guard header.type == VsockHeader.streamType, let operation else { return refuse(key) }
        guard let connection = byKey[key] else {
            if operation == .request { return guestConnects(key, header, link) }
            if operation != .reset { refuse(key) }
            return
        }
        connection.note(header)
        connection.isCreditRequestQueued = false
        handle(operation, header, connection, link)
        if bySocket[connection.socket.rawValue] === connection { updateInterest(connection, link) }
    }

    private func handle(_ operation: VsockHeader.Operation, _ header: VsockHeader, _ connection: VsockConnection, _ link: DeviceLink) {
        switch operation {
        case .request: abort(connection, link, .refused(port: connection.key.guestPort))
        case .response: established(connection, link)
        case .reset: guestReset(connection, link)
        case .shutdown: guestShutDown(VsockShutdown(rawValue: header.flags), connection, link)
        case .data: guestSent(Int(header.length), connection, link)
        case .creditUpdate: break
        case .creditRequest: queueCreditUpdate(connection)
        }
    }

    private func guestConnects(_ key: VsockKey, _ header: VsockHeader, _ link: DeviceLink) {
        guard bySocket.count < Self.connectionsMax, let path,
            let socket = try? VsockListener.connect(path: "\(path)_\(key.hostPort)")
        else { return refuse(key) }
        let connection = VsockConnection(socket: socket, key: key, phase: .established, waiter: .nobody)
        connection.note(header)
        guard queue(.response, for: connection) else { return }
        add(connection)
        updateInterest(connection, link)
    }

    private func established(_ connection: VsockConnection, _ link: DeviceLink) {
        guard connection.phase == .connecting else { return abort(connection, link, .refused(port: connection.key.guestPort)) }
        connection.phase = .established
        connection.deadline = nil
        let waiter = connection.waiter
        connection.waiter = .nobody
        switch waiter {
        case .nobody: break
        case .caller(let report): report(nil)
        case .client:
            let line = Array("OK \(connection.key.hostPort)\n".utf8)
            if cdevice_send(connection.socket.rawValue, line, line.count) != line.count {
                abort(connection, link, .refused(port: connection.key.guestPort))
            }
        }
    }

    private func guestSent(_ count: Int, _ connection: VsockConnection, _ link: DeviceLink) {
        // More than this neither the host's socket nor the backlog takes.
        link.turn.spend(min(count, 4 * Int(VsockConnection.bufferBytes)))
        guard connection.phase == .established, !connection.guestShutdown.contains(.send) else {
            return abort(connection, link, .refused(port: connection.key.guestPort))
        }
        guard count > 0 else { return }
        guard connection.deliver(chain, count: count, vectors: &vectors) else {
            return abort(connection, link, .refused(port: connection.key.guestPort))
        }
        if connection.owesCreditUpdate { queueCreditUpdate(connection) }
    }

    private func guestShutDown(_ what: VsockShutdown, _ connection: VsockConnection, _ link: DeviceLink) {
        connection.guestShutdown.formUnion(what.intersection(.both))
        finishIfDrained(connection, link)
    }

    /// The guest has forgotten the connection; what it sent before still goes to the host.
    private func guestReset(_ connection: VsockConnection, _ link: DeviceLink) {
        guard connection.phase == .established, !connection.backlog.isEmpty else {
            return close(connection, link, reason: .refused(port: connection.key.guestPort))
        }
        byKey[connection.key] = nil
        connection.phase = .draining
        connection.guestShutdown = .both
        connection.deadline = cdevice_monotonic_ms() + Self.answerMillisecondsMax
        timer?.isArmed = true
    }

    /// Passes the guest's shutdown on once its data has gone, and forgets what is shut both ways.
    func finishIfDrained(_ connection: VsockConnection, _ link: DeviceLink) {
        guard connection.backlog.isEmpty else { return }
        if connection.guestShutdown == .both {
            if connection.phase != .draining { _ = queue(.reset, for: connection) }
            close(connection, link, reason: .refused(port: connection.key.guestPort))
        } else if connection.guestShutdown.contains(.send) {
            _ = cdevice_shutdown_writing(connection.socket.rawValue)
        }
    }

    // MARK: - To the guest

    /// Queues a packet without data; false when the guest leaves too many of them lying.
    func queue(_ operation: VsockHeader.Operation, for connection: VsockConnection, flags: UInt32 = 0) -> Bool {
        guard control.count < Self.controlPacketsMax else { return false }
        var header = VsockHeader(from: connection.key.hostPort, to: connection.key.guestPort, context: guestContext, operation)
        header.flags = flags
        header.bufferBytes = VsockConnection.bufferBytes
        header.forwarded = connection.forwarded
        control.append(header)
        return true
    }

    /// Answers a packet that belongs to no connection.
    func refuse(_ key: VsockKey) {
        guard control.count < Self.controlPacketsMax else { return }
        control.append(VsockHeader(from: key.hostPort, to: key.guestPort, context: guestContext, .reset))
    }

    func queueCreditUpdate(_ connection: VsockConnection) {
        guard connection.phase == .established, !connection.isCreditUpdateQueued, queue(.creditUpdate, for: connection) else { return }
        connection.isCreditUpdateQueued = true
    }

    /// Sends the control packets that are due, then lets starved connections have what buffers are left.
    func pump(_ link: DeviceLink) throws(VirtioError) {
        guard !control.isEmpty || !starved.isEmpty, let receive = link.queue(Self.receiveQueue) else { return }
        repeat {
            link.turn.spend(DeviceTurn.requestCost)
            var sent = 0
            while sent < control.count, !link.turn.isOver, try receive.pop(into: chain) {
                try send(control[sent], receive)
                sent += 1
            }
            if sent > 0 {
                control.removeFirst(sent)
                link.publish(receive)
            }
            if control.isEmpty { try feedStarved(receive, link) }
        } while (!control.isEmpty || !starved.isEmpty) && receive.enableNotifications() && !link.turn.isOver
        // A guest that changes its index all the time, or takes all it gets, must not keep this loop going.
        if link.turn.isOver, !control.isEmpty || !starved.isEmpty { link.host?.serveAgain(queue: Self.receiveQueue) }
    }

    private func send(_ packet: VsockHeader, _ receive: VirtQueue) throws(VirtioError) {
        var header = packet
        let key = VsockKey(hostPort: header.sourcePort, guestPort: header.targetPort)
        if let connection = byKey[key] {
            // The freshest credit, not the one of when the packet was queued.
            header.forwarded = connection.forwarded
            connection.announced = connection.forwarded
            if header.operation == VsockHeader.Operation.creditUpdate.rawValue { connection.isCreditUpdateQueued = false }
        }
        guard header.write(to: chain) else {
            throw .badRequest(queue: Self.receiveQueue, what: "a vsock buffer is smaller than a header")
        }
        receive.complete(head: chain.head, written: VsockHeader.byteCount)
    }

    private func feedStarved(_ receive: VirtQueue, _ link: DeviceLink) throws(VirtioError) {
        while let descriptor = starved.first, receive.hasPending, !link.turn.isOver {
            starved.remove(descriptor)
            guard let connection = bySocket[descriptor] else { continue }
            try forward(connection, link)
            guard control.isEmpty else { return }
        }
    }

    /// Packets one connection may send before others have their turn.
    private static var burst: Int { 32 }

    /// Reads the host's socket straight into the guest's buffers, as far as credit and buffers go.
    func forward(_ connection: VsockConnection, _ link: DeviceLink) throws(VirtioError) {
        guard let receive = link.queue(Self.receiveQueue) else { return }
        var packets = 0
        loop: while packets < Self.burst, connection.wantedInterest.contains(.readable) {
            guard try receive.pop(into: chain) else {
                starved.insert(connection.socket.rawValue)
                break
            }
            switch try fill(connection, receive) {
            case .sent(let count):
                packets += 1
                link.turn.spend(count)
            case .wouldBlock: break loop
            case .ended:
                hostEnded(connection)
                break loop
            case .broken:
                abort(connection, link, .refused(port: connection.key.guestPort))
                break loop
            }
        }
        if packets > 0 { link.publish(receive) }
        guard bySocket[connection.socket.rawValue] === connection else { return }
        if connection.credit == 0, !connection.isHostDone, !connection.isCreditRequestQueued {
            connection.isCreditRequestQueued = queue(.creditRequest, for: connection)
        }
        updateInterest(connection, link)
    }

    private enum Filled {
        case sent(Int)
        case wouldBlock, ended, broken
    }

    /// Fills the buffer taken last with one packet of data, or gives it back.
    private func fill(_ connection: VsockConnection, _ receive: VirtQueue) throws(VirtioError) -> Filled {
        let room = chain.writableCount - VsockHeader.byteCount
        guard room > 0 else { throw .badRequest(queue: Self.receiveQueue, what: "a vsock buffer has no room for data") }
        _ = chain.fill(&vectors, writable: true, from: VsockHeader.byteCount, limit: min(room, connection.credit))
        let socket = connection.socket.rawValue
        let count = vectors.withPointer { clinux_ignoringInterrupts(cdevice_receive_vectors(socket, $0, $1)) } ?? 0
        guard count > 0 else {
            receive.undoPop()
            if count == 0 { return .ended }
            return count == -Int(EAGAIN) ? .wouldBlock : .broken
        }
        chain.markWritten(from: VsockHeader.byteCount, count: count)
        var header = VsockHeader(from: connection.key.hostPort, to: connection.key.guestPort, context: guestContext, .data)
        header.length = UInt32(truncatingIfNeeded: count)
        header.bufferBytes = VsockConnection.bufferBytes
        header.forwarded = connection.forwarded
        connection.announced = connection.forwarded
        _ = header.write(to: chain)
        connection.didSend(count)
        receive.complete(head: chain.head, written: VsockHeader.byteCount + count)
        return .sent(count)
    }
}
