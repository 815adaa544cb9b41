import Foundation
import Linux
import Synchronization
import Testing

@testable import AuroraVMM

/// What a driver offers at once does not decide how long a device works at once.
@Suite struct DeviceTurnTests {
    private static let sectorsOfGuest = GuestDriver.memoryBytes / 512

    /// A request of many overlapping parts: more bytes than the guest has memory.
    private func large(_ driver: GuestDriver, _ kind: UInt32, parts: Int) {
        let count = UInt32(GuestDriver.memoryBytes - Int(GuestDriver.arenaStart)) / 2
        let flags: UInt16 = kind == 0 ? 2 : 0
        var list: [Part] = [.readable(driver.blockHeader(kind, 0))]
        for _ in 0..<parts { list.append(.raw(address: GuestDriver.arenaStart + UInt64(count), count: count, flags: flags)) }
        driver.offer(0, list + [.writable(1)])
    }

    @Test(arguments: [UInt32(0), 1])
    func longRequestsTakeSeveralTurns(kind: UInt32) throws {
        let disk = GatedDisk(byteCount: 64 << 20)
        let driver = try GuestDriver(BlockDevice(backend: disk, serial: "turns"))
        driver.start()
        large(driver, kind, parts: 12)
        let wanted = Int64(12 * (GuestDriver.memoryBytes - Int(GuestDriver.arenaStart)) / 2)
        var turns = 0
        var before: Int64 = 0
        repeat {
            driver.notify(0)
            turns += 1
            let now = disk.moved.load(ordering: .relaxed)
            #expect(now - before <= Int64(DeviceTurn.bytesMax + DeviceTurn.pieceBytesMax))
            before = now
        } while !driver.needsReset && turns < 100 && before < wanted
        #expect(before == wanted)
        #expect(turns >= 5)
        let answer = try #require(driver.takeUsed(0))
        #expect(answer.bytes.last == 0)
        #expect(answer.length == (kind == 0 ? Int(wanted) + 1 : 1))
    }

    /// A checkpoint in the middle of it: whoever goes on from there begins the request anew.
    @Test func aStateWithAHalfDoneRequestGoesOn() throws {
        let disk = GatedDisk(byteCount: 64 << 20)
        let driver = try GuestDriver(BlockDevice(backend: disk, serial: "turns"))
        driver.start()
        large(driver, 0, parts: 12)
        driver.notify(0)
        #expect(driver.takeUsed(0) == nil)
        let copy = try GuestDriver(BlockDevice(backend: disk, serial: "turns"), memory: driver.memory)
        try copy.window.load(driver.window.save())
        copy.adoptQueues(of: driver)
        for _ in 0..<20 { copy.notify(0) }
        #expect(copy.takeUsed(0)?.bytes.last == 0)
        #expect(copy.takeUsed(0) == nil)
    }

    /// Terabytes to discard come in pieces, too.
    @Test(arguments: [UInt32(11), 13])
    func largeRangesAreClearedInPieces(kind: UInt32) throws {
        let disk = GatedDisk(byteCount: 512, claimed: 1 << 40)
        let driver = try GuestDriver(BlockDevice(backend: disk, serial: "turns"))
        driver.start()
        var segments: [UInt8] = []
        for index in 0..<UInt64(32) {
            segments.append(littleEndian: index << 24 | 3)
            segments.append(littleEndian: UInt32(1 << 22))
            segments.append(littleEndian: UInt32(0))
        }
        driver.offer(0, [.readable(driver.blockHeader(kind, 0)), .readable(segments), .writable(1)])
        let wanted = Int64(32) << 31
        var turns = 0
        var before: Int64 = 0
        repeat {
            driver.notify(0)
            turns += 1
            let now = disk.cleared.load(ordering: .relaxed)
            #expect(now - before <= Int64(DeviceTurn.bytesMax * BlockRequest.clearedByteShare) + BlockRequest.pieceBytes)
            before = now
        } while turns < 10_000 && before < wanted
        #expect(before == wanted)
        #expect(driver.takeUsed(0)?.bytes.last == 0)
    }

    /// Who waits for the device to come to rest does not wait for the rest of a long request.
    @Test func aLongRequestYieldsToWhoWaits() throws {
        let disk = GatedDisk(byteCount: 64 << 20)
        let driver = try GuestDriver(BlockDevice(backend: disk, serial: "turns"))
        let loop = try EventLoop(name: "test-loop")
        driver.start()
        try driver.window.attach(to: loop)
        disk.isHeld.store(true, ordering: .releasing)
        large(driver, 0, parts: 12)
        driver.window.queueNotifiers[0].signal()
        while !disk.isWaiting.load(ordering: .acquiring) { usleep(100) }
        let hasRested = Atomic(false)
        let pauser = try Thread(name: "pauser") { @Sendable in hasRested.store(loop.quiesce(), ordering: .releasing) }
        while !loop.isWaitedFor { usleep(100) }
        let before = disk.moved.load(ordering: .acquiring)
        disk.isHeld.store(false, ordering: .releasing)
        pauser.join()
        let (rested, after) = (hasRested.load(ordering: .acquiring), disk.moved.load(ordering: .acquiring))
        #expect(rested)
        #expect(after == before)
        loop.resume()
        while disk.moved.load(ordering: .acquiring) < Int64(12 * (GuestDriver.memoryBytes - Int(GuestDriver.arenaStart)) / 2) {
            usleep(100)
        }
        loop.stop()
        driver.window.detach()
        #expect(driver.takeUsed(0)?.bytes.last == 0)
    }

    @Test func aConsoleDoesNotPrintWithoutEnd() throws {
        let log = ConsoleLog()
        let driver = try GuestDriver(ConsoleDevice(log: log))
        driver.start()
        driver.offer(1, [.readable([UInt8](repeating: 65, count: ConsoleDevice.outputBytesMax))])
        driver.notify(1)
        #expect(!driver.needsReset)
        #expect(driver.takeUsed(1) != nil)
        driver.offer(1, [.readable([UInt8](repeating: 66, count: ConsoleDevice.outputBytesMax + 1))])
        driver.notify(1)
        #expect(driver.needsReset)
        #expect(!log.tail.contains("B"))
    }

    /// What the guest gives back is not fetched to be thrown away, and is not fetched later.
    @Test(.enabled(if: LazyKit.isThere, "userfaultfd is not permitted; see the output"), arguments: [0, 2])
    func pagesGivenBackAreNotFetched(queue: Int) throws {
        let mapping = try Mapping.anonymous(count: GuestDriver.memoryBytes, what: "a test")
        let before = try Mapping.anonymous(count: GuestDriver.memoryBytes, what: "a test")
        for page in 512..<1024 { memset(before.base + page * pageBytes, Int32(page % 250 + 1), pageBytes) }
        let source = RecordedPages([before])
        let lazy = try LazyMemory([mapping], source: source)
        defer { lazy.stop() }
        let memory = GuestMemory(regions: [.init(start: GuestAddress(0), mapping: mapping)], lazy: lazy)
        let driver = try GuestDriver(BalloonDevice(), memory: memory)
        driver.start(size: 32)
        let first = 800
        if queue == 2 {
            driver.offer(queue, [.raw(address: UInt64(first * pageBytes), count: UInt32(200 * pageBytes), flags: 2)])
        } else {
            var list: [UInt8] = []
            for page in first..<first + 200 { list.append(littleEndian: UInt32(page)) }
            driver.offer(queue, [.readable(list)])
        }
        let reads = source.behaviour.withLock { $0.pagesRead }
        driver.notify(queue)
        #expect(driver.takeUsed(queue) != nil)
        #expect(source.behaviour.withLock { $0.pagesRead } == reads)
        for page in [first, first + 100, first + 199] { #expect(driver.peek(UInt64(page * pageBytes), as: UInt64.self) == 0) }
        #expect(source.behaviour.withLock { $0.pagesRead } == reads)
        #expect(driver.peek(UInt64((first - 1) * pageBytes), as: UInt8.self) == UInt8((first - 1) % 250 + 1))
    }

    /// What is offered but not used is not fetched either.
    @Test(.enabled(if: LazyKit.isThere, "userfaultfd is not permitted; see the output"))
    func offersAreNotFetched() throws {
        let mapping = try Mapping.anonymous(count: GuestDriver.memoryBytes, what: "a test")
        let before = try Mapping.anonymous(count: GuestDriver.memoryBytes, what: "a test")
        for page in 512..<1024 { memset(before.base + page * pageBytes, 7, pageBytes) }
        let source = RecordedPages([before])
        let lazy = try LazyMemory([mapping], source: source)
        defer { lazy.stop() }
        let memory = GuestMemory(regions: [.init(start: GuestAddress(0), mapping: mapping)], lazy: lazy)
        let driver = try GuestDriver(EntropyDevice(), memory: memory)
        driver.start()
        driver.offer(0, [.raw(address: 2 << 20, count: UInt32(4096), flags: 2), .raw(address: 3 << 20, count: 1 << 20, flags: 2)])
        let reads = source.behaviour.withLock { $0.pagesRead }
        driver.notify(0)
        #expect(driver.takeUsed(0)?.length == EntropyDevice.requestBytesMax)
        #expect(
            source.behaviour.withLock { $0.pagesRead } - reads <= EntropyDevice.requestBytesMax / pageBytes + 2
                * LazyPolicy().readAheadPages)
    }
}
