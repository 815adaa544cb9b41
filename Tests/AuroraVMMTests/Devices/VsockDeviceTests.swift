import CLinux
import Linux
import Synchronization
import Testing

@testable import AuroraVMM

/// Plays the guest's vsock driver against a device on a real event loop.
final class VsockGuest {
    let driver: GuestDriver
    let loop: EventLoop
    let window: MMIOTransport<VsockDevice>
    /// Credit the guest claims to have.
    var bufferBytes: UInt32 = 1 << 20
    var forwarded: UInt32 = 0

    init(path: String?, receiveBuffers: Int = 32, bufferSize: Int = 4096) throws {
        driver = try GuestDriver(VsockDevice(guestContext: 3, path: path))
        window = try #require(driver.window as? MMIOTransport<VsockDevice>)
        loop = try EventLoop(name: "test-vsock")
        driver.start()
        try window.attach(to: loop)
        for _ in 0..<receiveBuffers { driver.offer(0, [.writable(44), .writable(bufferSize)]) }
    }

    deinit {
        window.detach()
        loop.stop()
    }

    struct Packet {
        var header: [UInt8]
        var data: [UInt8]
        private func word(_ offset: Int) -> UInt32 { (0..<4).reduce(0) { $0 | UInt32(header[offset + $1]) << UInt32(8 * $1) } }
        var hostPort: UInt32 { word(16) }
        var guestPort: UInt32 { word(20) }
        var length: UInt32 { word(24) }
        var operation: UInt16 { UInt16(truncatingIfNeeded: word(28) >> 16) }
        var flags: UInt32 { word(32) }
        var forwarded: UInt32 { word(40) }
    }

    func send(_ operation: VsockHeader.Operation, _ key: VsockKey, _ data: [UInt8] = [], flags: UInt32 = 0, length: UInt32? = nil) {
        var bytes: [UInt8] = []
        bytes.append(littleEndian: UInt64(3))
        bytes.append(littleEndian: UInt64(2))
        bytes.append(littleEndian: key.guestPort)
        bytes.append(littleEndian: key.hostPort)
        bytes.append(littleEndian: length ?? UInt32(data.count))
        bytes.append(littleEndian: UInt16(1))
        bytes.append(littleEndian: operation.rawValue)
        bytes.append(littleEndian: flags)
        bytes.append(littleEndian: bufferBytes)
        bytes.append(littleEndian: forwarded)
        driver.offer(1, data.isEmpty ? [.readable(bytes)] : [.readable(bytes), .readable(data)])
        driver.notify(1)
        _ = driver.takeUsed(1)
    }

    /// Waits for a packet and gives its buffer back to the device.
    func receive(refill: Bool = true) -> Packet? {
        for _ in 0..<240_000 {
            if let used = driver.takeUsed(0) {
                if refill {
                    driver.offer(0, [.writable(44), .writable(used.bytes.count - 44)])
                    driver.notify(0)
                }
                return Packet(header: Array(used.bytes.prefix(44)), data: Array(used.bytes[44..<max(44, used.length)]))
            }
            usleep(500)
        }
        return nil
    }

    /// Waits for a packet of one kind, skipping credit updates.
    func expect(_ operation: VsockHeader.Operation) throws -> Packet {
        while true {
            let packet = try #require(receive(), "no \(operation) packet came")
            if packet.operation == operation.rawValue { return packet }
            let skipped = [VsockHeader.Operation.creditUpdate.rawValue, VsockHeader.Operation.creditRequest.rawValue]
            try #require(skipped.contains(packet.operation), "operation \(packet.operation) instead of \(operation)")
        }
    }

    /// Asks the device for a connection, without an answer yet.
    func startConnecting(port: UInt32) throws -> PendingConnection {
        let outcome = PendingConnection.Outcome()
        let (descriptor, failure) = window.withDevice { device, link -> (Int32, VsockError?) in
            do throws(VsockError) {
                let descriptor = try device.connect(to: port, link) { outcome.set($0) }
                try? device.pump(link)
                return (descriptor, nil)
            } catch { return (-1, error) }
        }
        if let failure { throw failure }
        return PendingConnection(socket: HostSocket(OwnedDescriptor(adopting: descriptor)), outcome: outcome)
    }

    /// A connection made from inside the process, accepted by the guest.
    func connect(port: UInt32 = 1024) throws -> (socket: HostSocket, key: VsockKey) {
        let pending = try startConnecting(port: port)
        let request = try expect(.request)
        let key = VsockKey(hostPort: request.hostPort, guestPort: request.guestPort)
        #expect(key.guestPort == port)
        send(.response, key)
        #expect(pending.outcome.value == .some(nil))
        return (pending.socket, key)
    }
}

struct PendingConnection {
    final class Outcome: Sendable {
        private let stored = Mutex<VsockError??>(nil)
        func set(_ error: VsockError?) {
            stored.withLock {
                #expect($0 == nil, "the outcome is told once")
                $0 = .some(error)
            }
        }
        var value: VsockError?? { stored.withLock { $0 } }
    }
    let socket: HostSocket
    let outcome: Outcome
}

/// The host's end of a connection; closed with its owner.
final class HostSocket: Sendable {
    private let descriptor: OwnedDescriptor
    var rawValue: Int32 { descriptor.rawValue }
    init(_ descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }
}

private func write(_ socket: HostSocket, _ bytes: [UInt8]) -> Int {
    cdevice_send(socket.rawValue, bytes, bytes.count)
}

/// Reads until `count` bytes are there or the stream ends.
private func read(_ socket: HostSocket, _ count: Int) -> [UInt8] {
    var result: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65536)
    while result.count < count {
        let got = clinux_read(socket.rawValue, &buffer, min(buffer.count, count - result.count))
        if got <= 0 { break }
        result.append(contentsOf: buffer[..<got])
    }
    return result
}

@Suite(.timeLimit(.minutes(5))) struct VsockDeviceTests {
    @Test func dataFlowsBothWays() throws {
        let guest = try VsockGuest(path: nil)
        let (socket, key) = try guest.connect()
        #expect(write(socket, Array("to the guest".utf8)) == 12)
        let packet = try guest.expect(.data)
        #expect(packet.data == Array("to the guest".utf8))
        guest.send(.data, key, Array("to the host".utf8))
        #expect(read(socket, 11) == Array("to the host".utf8))
    }

    @Test func callersMayWaitForTheGuest() async throws {
        let guest = try VsockGuest(path: nil)
        let window = guest.window
        let pending = Task.detached { HostSocket(try await window.connect(port: 1024)) }
        while guest.window.withDevice({ device, _ in device.byKey.isEmpty }) { try await Task.sleep(for: .milliseconds(1)) }
        let request = try guest.expect(.request)
        guest.send(.response, VsockKey(hostPort: request.hostPort, guestPort: request.guestPort))
        #expect(try await write(pending.value, [1]) == 1)
    }

    @Test func nobodyListeningIsAnError() throws {
        let guest = try VsockGuest(path: nil)
        let pending = try guest.startConnecting(port: 9)
        let request = try guest.expect(.request)
        guest.send(.reset, VsockKey(hostPort: request.hostPort, guestPort: request.guestPort))
        #expect(pending.outcome.value == .some(.refused(port: 9)))
    }

    @Test func withoutADriverTheErrorSaysSo() throws {
        let guest = try VsockGuest(path: nil)
        guest.driver.write(MMIORegister.status, 0)
        #expect(throws: VsockError.notReady) { try guest.startConnecting(port: 1024) }
    }

    @Test func aDriverResetEndsWaitingCallers() throws {
        let guest = try VsockGuest(path: nil)
        let pending = try guest.startConnecting(port: 9)
        _ = try guest.expect(.request)
        guest.driver.write(MMIORegister.status, 0)
        #expect(pending.outcome.value == .some(.notReady))
    }

    @Test func clientsOfTheUnixSocketAreGreeted() throws {
        let directory = TemporaryDirectory()
        let guest = try VsockGuest(path: directory.path + "/vsock.sock")
        let client = HostSocket(try VsockListener.connect(path: directory.path + "/vsock.sock"))
        #expect(write(client, Array("CONNECT 1024\nearly".utf8)) == 18)
        let request = try guest.expect(.request)
        #expect(request.guestPort == 1024)
        guest.send(.response, VsockKey(hostPort: request.hostPort, guestPort: 1024))
        _ = clinux_fcntl(client.rawValue, F_SETFL, 0)
        let answer = "OK \(request.hostPort)\n"
        #expect(String(decoding: read(client, answer.utf8.count), as: UTF8.self) == answer)
        #expect(try guest.expect(.data).data == Array("early".utf8))
    }

    @Test(arguments: ["CONNECT\n", "CONNECT \n", "CONNECT 99999999999\n", "CONNECT -1\n", "HELLO 3\n", String(repeating: "x", count: 40)])
    func badGreetingsAreClosed(greeting: String) throws {
        let directory = TemporaryDirectory()
        let guest = try VsockGuest(path: directory.path + "/vsock.sock")
        let client = HostSocket(try VsockListener.connect(path: directory.path + "/vsock.sock"))
        #expect(write(client, Array(greeting.utf8)) == greeting.utf8.count)
        _ = clinux_fcntl(client.rawValue, F_SETFL, 0)
        #expect(read(client, 1) == [])
        #expect(!guest.driver.needsReset)
    }

    @Test func guestsReachSocketsOfTheHost() throws {
        let directory = TemporaryDirectory()
        let guest = try VsockGuest(path: directory.path + "/vsock.sock")
        let server = try VsockListener(path: directory.path + "/vsock.sock_77")
        let key = VsockKey(hostPort: 77, guestPort: 5000)
        guest.send(.request, key)
        _ = try guest.expect(.response)
        guard let accepted = server.accept() else {
            Issue.record("the guest's connection did not arrive")
            return
        }
        let owner = HostSocket(accepted)
        _ = clinux_fcntl(owner.rawValue, F_SETFL, 0)
        guest.send(.data, key, Array("hi".utf8))
        #expect(read(owner, 2) == Array("hi".utf8))
        guest.send(.shutdown, key, flags: 3)
        #expect(read(owner, 1) == [])
        #expect(try guest.expect(.reset).guestPort == 5000)
    }

    @Test func unknownHostPortsAreRefused() throws {
        let directory = TemporaryDirectory()
        let guest = try VsockGuest(path: directory.path + "/vsock.sock")
        guest.send(.request, VsockKey(hostPort: 78, guestPort: 5000))
        #expect(try guest.expect(.reset).hostPort == 78)
    }

    @Test func halfClosedStreamsStillCarryTheOtherWay() throws {
        let guest = try VsockGuest(path: nil)
        let (socket, key) = try guest.connect()
        _ = cdevice_shutdown_writing(socket.rawValue)
        #expect(try guest.expect(.shutdown).flags == VsockShutdown.send.rawValue)
        guest.send(.data, key, Array("late".utf8))
        #expect(read(socket, 4) == Array("late".utf8))
        guest.send(.shutdown, key, flags: 3)
        #expect(read(socket, 1) == [])
        _ = try guest.expect(.reset)
    }

    @Test func aClosedClientShutsTheStreamBothWays() throws {
        let guest = try VsockGuest(path: nil)
        var key: VsockKey?
        do {
            let (socket, made) = try guest.connect()
            key = made
            _ = write(socket, [1, 2, 3])
        }
        #expect(try guest.expect(.data).data == [1, 2, 3])
        #expect(try guest.expect(.shutdown).flags == VsockShutdown.both.rawValue)
        guest.send(.reset, try #require(key))
        #expect(guest.window.withDevice { device, _ in device.bySocket.isEmpty && device.byKey.isEmpty })
    }

    @Test func theGuestsCreditIsRespected() throws {
        let guest = try VsockGuest(path: nil)
        guest.bufferBytes = 1000
        let (socket, key) = try guest.connect()
        let bytes = (0..<3000).map { UInt8(truncatingIfNeeded: $0) }
        #expect(write(socket, bytes) == 3000)
        #expect(try guest.expect(.data).data == Array(bytes[..<1000]))
        #expect(guest.receive()?.operation == VsockHeader.Operation.creditRequest.rawValue)
        guest.forwarded = 1000
        guest.send(.creditUpdate, key)
        #expect(try guest.expect(.data).data == Array(bytes[1000..<2000]))
        guest.forwarded = 5000  // more than was ever sent
        guest.send(.creditUpdate, key)
        usleep(20_000)
        #expect(guest.driver.takeUsed(0)?.length ?? 44 == 44)
    }

    @Test func aGuestThatIgnoresItsCreditLosesTheConnection() throws {
        let guest = try VsockGuest(path: nil)
        let (socket, key) = try guest.connect()
        let block = [UInt8](repeating: 7, count: 32768)
        // Nobody reads the socket: its own buffer and the backlog fill up.
        for _ in 0..<64 { guest.send(.data, key, block) }
        _ = try guest.expect(.reset)
        #expect(guest.window.withDevice { device, _ in device.bySocket.isEmpty })
        _ = socket.rawValue
    }

    @Test func muchDataArrivesWholeWithFewBuffers() throws {
        let guest = try VsockGuest(path: nil, receiveBuffers: 2)
        let (socket, key) = try guest.connect()
        let bytes = (0..<200_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
        let writer = try EventLoop(name: "test-writer")  // a thread of its own: the tasks of all tests share two
        writer.run {
            var done = 0
            while done < bytes.count {
                let sent = bytes[done...].withUnsafeBytes { cdevice_send(socket.rawValue, $0.baseAddress, $0.count) }
                if sent > 0 { done += sent } else { usleep(200) }
            }
        }
        var found: [UInt8] = []
        while found.count < bytes.count {
            let packet = try guest.expect(.data)
            found.append(contentsOf: packet.data)
            guest.forwarded &+= UInt32(packet.data.count)
            if guest.forwarded % (64 * 1024) < 4096 { guest.send(.creditUpdate, key) }
        }
        writer.stop()
        #expect(found == bytes)
    }

    @Test func theBacklogIsDeliveredAfterTheGuestHasGone() throws {
        let guest = try VsockGuest(path: nil)
        let (socket, key) = try guest.connect()
        var sent: [UInt8] = []
        var round: UInt8 = 0
        while guest.window.withDevice({ device, _ in device.byKey[key]?.backlog.isEmpty ?? false }) {
            round &+= 1
            let block = [UInt8](repeating: round, count: 16384)
            sent += block
            guest.send(.data, key, block)
        }
        guest.send(.shutdown, key, flags: 3)
        #expect(read(socket, sent.count + 1) == sent)
        _ = try guest.expect(.reset)
    }

    @Test func aRestoredGuestHearsThatItsConnectionsAreGone() throws {
        let guest = try VsockGuest(path: nil)
        _ = try guest.connect()
        guest.loop.quiesce()
        let state = guest.window.save()
        let copy = try GuestDriver(VsockDevice(guestContext: 3, path: nil), memory: guest.driver.memory)
        try copy.window.load(state)
        copy.adoptQueues(of: guest.driver)
        copy.offer(2, [.writable(8)])
        copy.notify(2)
        let event = try #require(copy.takeUsed(2))
        #expect(event.length == 4)
        #expect(Array(event.bytes.prefix(4)) == [0, 0, 0, 0])
        copy.offer(2, [.writable(8)])
        copy.notify(2)
        #expect(copy.takeUsed(2) == nil)
        guest.loop.resume()
    }

    /// Until the guest has carried a reset out it would reset a new connection, too.
    @Test func connectionsWaitUntilTheGuestHasResetTheOldOnes() throws {
        let guest = try VsockGuest(path: nil)
        let old = try guest.connect()
        let state = guest.window.save()
        try guest.window.load(state)
        guest.driver.adoptQueues(of: guest.driver)
        let early = try guest.startConnecting(port: 7)
        let given = try guest.startConnecting(port: 8)
        #expect(guest.driver.takeUsed(0) == nil)
        guest.driver.offer(2, [.writable(8)])
        guest.driver.notify(2)
        #expect(guest.driver.takeUsed(2)?.length == 4)
        #expect(guest.driver.takeUsed(0) == nil, "the guest has been told, but has not done it")
        #expect(early.outcome.value == nil)
        guest.driver.notify(2)
        #expect(guest.driver.takeUsed(0) == nil, "a notification alone says nothing")
        guest.driver.offer(2, [.writable(8)])
        guest.driver.notify(2)
        for (pending, port) in [(early, UInt32(7)), (given, 8)] {
            let request = try guest.expect(.request)
            #expect(request.guestPort == port)
            #expect(request.hostPort > old.key.hostPort, "the guest may still hold the old one's port")
            guest.send(.response, VsockKey(hostPort: request.hostPort, guestPort: port))
            #expect(pending.outcome.value == .some(nil))
        }
        // From then on nothing waits.
        _ = try guest.connect(port: 9)
    }

    @Test func malformedPacketsAreAnsweredOrEndTheDevice() throws {
        let guest = try VsockGuest(path: nil)
        guest.send(.data, VsockKey(hostPort: 1, guestPort: 2), [1])
        #expect(try guest.expect(.reset).guestPort == 2)
        guest.send(.data, VsockKey(hostPort: 1, guestPort: 2), [1], length: 4096)
        #expect(guest.driver.needsReset)
    }

    @Test func controlPacketsAreBoundedWhenTheGuestTakesNone() throws {
        let guest = try VsockGuest(path: nil, receiveBuffers: 0)
        for port in 0..<UInt32(VsockDevice.controlPacketsMax + 100) { guest.send(.data, VsockKey(hostPort: 1, guestPort: port)) }
        #expect(guest.window.withDevice { device, _ in device.control.count } == VsockDevice.controlPacketsMax)
    }
}
