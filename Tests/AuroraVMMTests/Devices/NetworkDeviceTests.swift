import CLinux
import Linux
import Testing

@testable import AuroraVMM

@Suite struct NetworkDeviceTests {
    private let macAddress: [UInt8] = [2, 0, 0, 1, 2, 3]

    private func card(without: UInt64 = 0) throws -> (driver: GuestDriver, frames: SocketFrames) {
        let frames = try SocketFrames()
        let driver = try GuestDriver(NetworkDevice(frames: frames, macAddress: macAddress))
        driver.start(without: without)
        return (driver, frames)
    }

    /// A frame behind an empty virtio-net header.
    private func frame(_ count: Int, seed: Int = 1) -> [UInt8] {
        [UInt8](repeating: 0, count: 12) + (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ seed) }
    }

    @Test func theAddressIsInTheConfigurationSpace() throws {
        let (driver, _) = try card()
        let found = (0..<6).map { UInt8(truncatingIfNeeded: driver.window.read(offset: MMIORegister.configuration + $0, size: 1)) }
        #expect(found == macAddress)
    }

    @Test func framesOfTheGuestArriveWhole() throws {
        let (driver, frames) = try card()
        let sent = frame(1500)
        _ = driver.request(1, [.readable(Array(sent[..<12])), .readable(Array(sent[12..<700])), .readable(Array(sent[700...]))])
        #expect(frames.receive() == sent)
    }

    @Test(arguments: [0, 11, 12, 65_563])
    func framesOfSillySizesAreDropped(count: Int) throws {
        let (driver, frames) = try card()
        _ = driver.request(1, [.readable([UInt8](repeating: 0, count: count))])
        #expect(frames.receive() == nil)
        #expect(!driver.needsReset)
    }

    @Test func aLargeFrameIsSpreadOverMergedBuffers() throws {
        let (driver, frames) = try card()
        for _ in 0..<10 { driver.offer(0, [.writable(1000)]) }
        let sent = frame(3500)
        #expect(frames.send(sent))
        driver.notify(0)
        var found: [UInt8] = []
        var buffers = 0
        while let used = driver.takeUsed(0) {
            found.append(contentsOf: used.bytes.prefix(used.length))
            buffers += 1
        }
        #expect(buffers == 4)
        #expect(found[10] == 4 && found[11] == 0)
        #expect(Array(found[12...]) == Array(sent[12...]))
    }

    @Test func frameWaitsForBuffersAndIsNotLost() throws {
        let (driver, frames) = try card()
        driver.offer(0, [.writable(1000)])
        let sent = frame(1500)
        #expect(frames.send(sent))
        driver.notify(0)
        #expect(driver.takeUsed(0) == nil)
        driver.offer(0, [.writable(1000)])
        driver.notify(0)
        let found = [driver.takeUsed(0), driver.takeUsed(0)].compactMap { $0 }.flatMap { $0.bytes.prefix($0.length) }
        #expect(Array(found[12...]) == Array(sent[12...]))
    }

    /// Too few buffers lie there: the driver must be asked to tell of the buffers after those, or it never does.
    @Test func theDeviceAsksForMoreBuffersThanThereAre() throws {
        let (driver, frames) = try card()
        for _ in 0..<3 { driver.offer(0, [.writable(100)]) }
        #expect(frames.send(frame(1500)))
        driver.notify(0)
        let queue = driver.queue(0)
        #expect(driver.peek(queue.used + 4 + 8 * UInt64(queue.size), as: UInt16.self) == 3)
        for _ in 0..<20 { driver.offer(0, [.writable(100)]) }
        driver.notify(0)
        #expect(driver.takeUsed(0)?.length == 100)
    }

    @Test func aFrameLargerThanTheWholeQueueIsDropped() throws {
        let frames = try SocketFrames()
        let driver = try GuestDriver(NetworkDevice(frames: frames, macAddress: macAddress))
        driver.start(size: 2)
        for _ in 0..<2 { driver.offer(0, [.writable(100)]) }
        #expect(frames.send(frame(1500)))
        #expect(frames.send(frame(50)))
        driver.notify(0)
        #expect(driver.takeUsed(0)?.length == 62)
    }

    @Test func withoutMergingAFrameNeedsOneBuffer() throws {
        let (driver, frames) = try card(without: NetworkFeature.mergeableBuffers)
        driver.offer(0, [.writable(1000)])
        #expect(frames.send(frame(1500)))
        #expect(frames.send(frame(200)))
        driver.notify(0)
        #expect(driver.takeUsed(0)?.length == 212)
    }

    @Test func offloadsFollowTheFeatures() throws {
        #expect(try card().frames.offloads == UInt32(TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN))
        #expect(try card(without: NetworkFeature.guestChecksum).frames.offloads == 0)
        #expect(try card(without: NetworkFeature.guestTSO4 | NetworkFeature.guestECN).frames.offloads == UInt32(TUN_F_CSUM | TUN_F_TSO6))
    }

    @Test func buffersWithoutRoomForAHeaderNeedAReset() throws {
        let (driver, frames) = try card()
        driver.offer(0, [.writable(12)])
        #expect(frames.send(frame(100)))
        driver.notify(0)
        #expect(driver.needsReset)
    }

    @Test func anotherAddressIsRefusedOnLoad() throws {
        let (driver, _) = try card()
        let state = driver.window.save()
        let other = try GuestDriver(NetworkDevice(frames: SocketFrames(), macAddress: [2, 0, 0, 9, 9, 9]))
        #expect(throws: DeviceStateError.self) { try other.window.load(state) }
        #expect(other.status == 0)
    }
}
