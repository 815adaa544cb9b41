import Linux
import Testing

@testable import AuroraVMM

/// A queue alone, driven by hand-written rings.
@Suite struct VirtQueueTests {
    private static let size: UInt16 = 8
    private static let base: UInt64 = 0x8000

    /// The console's transmit queue logs what it is given: a good microphone for what a queue accepts.
    private func console() throws -> (driver: GuestDriver, log: ConsoleLog) {
        let log = ConsoleLog()
        let driver = try GuestDriver(ConsoleDevice(log: log))
        driver.start(size: Self.size)
        return (driver, log)
    }

    private func refused(_ change: (GuestDriver) -> Void) throws -> VirtioError? {
        let (driver, _) = try console()
        change(driver)
        driver.notify(1)
        #expect(driver.needsReset)
        #expect(driver.read(MMIORegister.interruptStatus) & InterruptReason.configuration != 0)
        #expect(driver.takeUsed(1) == nil)
        // A reset brings the device back.
        driver.write(MMIORegister.status, 0)
        let failure = driver.window.lastFailure
        driver.start(size: Self.size)
        #expect(driver.request(1, [.readable(Array("ok".utf8))])?.length == 0)
        return failure
    }

    // MARK: - Hostile rings

    @Test func loopsAreRefused() throws {
        let failure = try refused { driver in
            for number in 0..<Self.size {
                driver.writeDescriptor(1, number, address: 0x10_0000, count: 4, flags: 1, next: (number + 1) % Self.size)
            }
            driver.offerHead(1, 0)
        }
        #expect(failure == .chainTooLong(queue: 1, limit: 8))
    }

    @Test func aDescriptorThatFollowsItselfIsRefused() throws {
        let failure = try refused { driver in
            driver.writeDescriptor(1, 0, address: 0x10_0000, count: 4, flags: 1, next: 0)
            driver.offerHead(1, 0)
        }
        #expect(failure == .chainTooLong(queue: 1, limit: 8))
    }

    @Test func loopsInIndirectTablesAreRefused() throws {
        let failure = try refused { driver in
            driver.writeDescriptor(at: 0x10_0000, address: 0x10_1000, count: 4, flags: 1, next: 1)
            driver.writeDescriptor(at: 0x10_0010, address: 0x10_1000, count: 4, flags: 1, next: 0)
            driver.writeDescriptor(1, 0, address: 0x10_0000, count: 32, flags: 4, next: 0)
            driver.offerHead(1, 0)
        }
        #expect(failure == .chainTooLong(queue: 1, limit: 2))
    }

    @Test(arguments: [
        (UInt64(0x80_0000), UInt32(1)), (0x7f_ffff, 2), (.max, 1), (.max - 100, 4096), (1 << 63, 16), (0, .max), (0x10_0000, .max),
    ])
    func wildBuffersAreRefused(address: UInt64, count: UInt32) throws {
        for indirect in [false, true] {
            let failure = try refused { driver in
                driver.offer(1, [.readable([1]), .raw(address: address, count: count, flags: 0)], indirect: indirect)
            }
            #expect(failure == .badAddress(queue: 1, what: "a buffer", address: GuestAddress(address), count: Int(count)))
        }
    }

    @Test func aChainAboveThirtyTwoBitsIsRefused() throws {
        // The same 7 MiB again and again: 1024 parts stay below 8 GiB only because the sum is bounded.
        let failure = try refused { driver in
            let table: UInt64 = 0x10_0000
            for number in 0..<UInt64(1024) {
                driver.writeDescriptor(
                    at: table + 16 * number, address: 0, count: 7 << 20, flags: number == 1023 ? 0 : 1, next: UInt16(number + 1))
            }
            driver.writeDescriptor(1, 0, address: table, count: 16 * 1024, flags: 4, next: 0)
            driver.offerHead(1, 0)
        }
        #expect(failure == .chainTooLarge(queue: 1))
    }

    @Test func tooManyPartsAreRefused() throws {
        let failure = try refused { driver in
            let table: UInt64 = 0x10_0000
            for number in 0..<UInt64(1025) {
                driver.writeDescriptor(
                    at: table + 16 * number, address: 0, count: 1, flags: number == 1024 ? 0 : 1, next: UInt16(number + 1))
            }
            driver.writeDescriptor(1, 0, address: table, count: 16 * 1025, flags: 4, next: 0)
            driver.offerHead(1, 0)
        }
        #expect(failure == .chainTooLong(queue: 1, limit: 1024))
    }

    @Test(arguments: [UInt32(0), 8, 17, 40])
    func raggedIndirectTablesAreRefused(count: UInt32) throws {
        let failure = try refused { driver in
            driver.writeDescriptor(1, 0, address: 0x10_0000, count: count, flags: 4, next: 0)
            driver.offerHead(1, 0)
        }
        #expect(failure == .badIndirectTable(queue: 1))
    }

    @Test func nestedAndChainedIndirectTablesAreRefused() throws {
        let nested = try refused { driver in
            driver.writeDescriptor(at: 0x10_0000, address: 0x10_1000, count: 16, flags: 4, next: 0)
            driver.writeDescriptor(1, 0, address: 0x10_0000, count: 16, flags: 4, next: 0)
            driver.offerHead(1, 0)
        }
        #expect(nested == .badIndirectTable(queue: 1))
        let chained = try refused { driver in
            driver.writeDescriptor(1, 0, address: 0x10_0000, count: 16, flags: 5, next: 1)
            driver.offerHead(1, 0)
        }
        #expect(chained == .badIndirectTable(queue: 1))
        let wild = try refused { driver in
            driver.writeDescriptor(1, 0, address: 0x7f_fff8, count: 16, flags: 4, next: 0)
            driver.offerHead(1, 0)
        }
        #expect(wild == .badIndirectTable(queue: 1))
    }

    @Test func indirectTablesNeedTheFeature() throws {
        let driver = try GuestDriver(ConsoleDevice(log: ConsoleLog()))
        driver.start(size: Self.size, without: VirtioFeature.indirectDescriptors)
        driver.offer(1, [.readable([65])], indirect: true)
        driver.notify(1)
        #expect(driver.needsReset)
    }

    @Test func aRequestMayStartDirectlyAndGoOnIndirectly() throws {
        let (driver, log) = try console()
        try driver.memory.write(GuestAddress(0x10_0100), Array("two".utf8))
        try driver.memory.write(GuestAddress(0x10_0200), Array("one ".utf8))
        driver.writeDescriptor(at: 0x10_0000, address: 0x10_0100, count: 3, flags: 0, next: 0)
        driver.writeDescriptor(1, 0, address: 0x10_0200, count: 4, flags: 1, next: 1)
        driver.writeDescriptor(1, 1, address: 0x10_0000, count: 16, flags: 4, next: 0)
        driver.offerHead(1, 0)
        driver.notify(1)
        #expect(log.tail == "one two")
    }

    @Test(arguments: [UInt16(9), 100, 0x8000, 0xffff])
    func indexJumpsAreRefused(index: UInt16) throws {
        let failure = try refused { driver in driver.poke(driver.queue(1).available + 2, index) }
        #expect(failure == .indexJump(queue: 1, from: 0, to: index))
    }

    @Test(arguments: [UInt16(8), 255, 0xffff])
    func headsAndLinksOutsideTheTableAreRefused(number: UInt16) throws {
        let head = try refused { driver in driver.offerHead(1, number) }
        #expect(head == .badDescriptor(queue: 1, number: UInt32(number)))
        let link = try refused { driver in
            driver.writeDescriptor(1, 0, address: 0x10_0000, count: 4, flags: 1, next: number)
            driver.offerHead(1, 0)
        }
        #expect(link == .badDescriptor(queue: 1, number: UInt32(number)))
    }

    @Test func readableAfterWritableIsRefused() throws {
        let failure = try refused { driver in driver.offer(1, [.writable(4), .readable([1])]) }
        #expect(failure == .readableAfterWritable(queue: 1))
    }

    @Test func emptyPartsAreSkipped() throws {
        let (driver, log) = try console()
        _ = driver.request(1, [.readable([]), .readable(Array("a".utf8)), .readable([]), .readable(Array("b".utf8))])
        #expect(log.tail == "ab")
        #expect(driver.request(1, [.readable([])])?.length == 0)
    }

    // MARK: - Interrupts

    /// Against the rule of virtio 1.2, section 2.7.7.2 written in the plainest way: an interrupt is due if the wished-for
    /// index lies among those just used.
    @Test(arguments: UInt64(1)...2)
    func interruptsFollowTheDriversWish(seed: UInt64) throws {
        var random = SeededGenerator(seed: seed)
        let (driver, _) = try console()
        _ = driver.request(1, [.readable([65])])
        var used = 1
        for _ in 0..<20_000 {  // far enough for the indexes to wrap several times
            let batch = 1 + random.below(Int(Self.size))
            let wish = (used + random.below(20) - 10) & 0xffff
            driver.wantInterrupt(1, at: UInt16(wish))
            let before = driver.line.value
            for _ in 0..<batch { driver.offer(1, [.readable([])]) }
            driver.notify(1)
            for _ in 0..<batch { #expect(driver.takeUsed(1) != nil) }
            let isDue = (used..<used + batch).contains { $0 & 0xffff == wish }
            #expect(driver.line.value - before == (isDue ? 1 : 0), "seed \(seed), used \(used), batch \(batch), wish \(wish)")
            used += batch
        }
    }

    @Test func withoutEventIndexesTheFlagDecides() throws {
        let driver = try GuestDriver(ConsoleDevice(log: ConsoleLog()))
        driver.start(size: Self.size, without: VirtioFeature.eventIndex)
        _ = driver.request(1, [.readable([65])])
        driver.poke(driver.queue(1).available, UInt16(1))
        let before = driver.line.value
        _ = driver.request(1, [.readable([65])])
        #expect(driver.line.value == before)
        driver.poke(driver.queue(1).available, UInt16(0))
        _ = driver.request(1, [.readable([65])])
        #expect(driver.line.value == before + 1)
    }

    @Test func theDeviceAsksForTheNextNotification() throws {
        let (driver, _) = try console()
        for _ in 0..<5 { _ = driver.request(1, [.readable([65])]) }
        let queue = driver.queue(1)
        #expect(driver.peek(queue.used + 4 + 8 * UInt64(queue.size), as: UInt16.self) == 5)
    }

    // MARK: - State and dirty pages

    @Test func aLoadedQueueGoesOnWhereItWas() throws {
        let (driver, _) = try console()
        for _ in 0..<21 { _ = driver.request(1, [.readable([65])]) }
        driver.offer(1, [.readable(Array("waiting".utf8))])
        let log = ConsoleLog()
        let copy = try GuestDriver(ConsoleDevice(log: log), memory: driver.memory)
        try copy.window.load(driver.window.save())
        copy.adoptQueues(of: driver)
        copy.notify(1)
        #expect(log.tail == "waiting")
        #expect(copy.takeUsed(1) != nil)
        #expect(copy.line.value == 1, "the first answer after a load always interrupts")
    }

    @Test func everythingWrittenIsMarked() throws {
        let driver = try GuestDriver(EntropyDevice())
        driver.start(size: Self.size)
        _ = driver.request(0, [.writable(4096)])
        driver.memory.regions[0].dirty.drain { _ in }
        driver.writeDescriptor(0, 0, address: 0x20_0ff0, count: 0x1020, flags: 2, next: 0)
        driver.offerHead(0, 0)
        driver.memory.regions[0].dirty.drain { _ in }  // what the driver wrote
        driver.notify(0)
        var pages: Set<Int> = []
        driver.memory.regions[0].dirty.drain { pages.insert($0) }
        #expect(pages == [0x200, 0x201, 0x202, Int(driver.queue(0).used) / pageBytes])
    }

    @Test func statesThatNoDriverCouldMakeAreRefused() throws {
        let (driver, _) = try console()
        guard case .console(let good) = driver.window.save() else { return #expect(Bool(false)) }
        func refusal(_ change: (inout TransportState<EmptyDeviceState>) -> Void) throws -> Bool {
            var state = good
            change(&state)
            let copy = try GuestDriver(ConsoleDevice(log: ConsoleLog()), memory: driver.memory)
            do throws(DeviceStateError) { try copy.window.load(.console(state)) } catch {
                #expect(copy.status == 0, "a refused state leaves the device reset")
                return true
            }
            return false
        }
        #expect(try !refusal { _ in })
        #expect(try refusal { $0.version = 2 })
        #expect(try refusal { $0.status = 0x100 })
        #expect(try refusal { $0.status = 4 })
        #expect(try refusal { $0.driverFeatures |= 1 << 50 })
        #expect(try refusal { $0.driverFeatures = 0 })
        #expect(try refusal { $0.queues.removeLast() })
        #expect(try refusal { $0.queues.append(QueueState(size: 8)) })
        #expect(try refusal { $0.queues[1].size = 24 })
        #expect(try refusal { $0.queues[1].descriptorTable = .max - 15 })
        #expect(try refusal { $0.queues[1].driverRing = 0x8001 })
        #expect(try refusal { $0.queues[1].deviceRing = 1 << 40 })
        #expect(try refusal { $0.queues[1].nextAvailable = $0.queues[1].nextUsed &+ 9 })
        #expect(try refusal { $0.status = 3 })
        #expect(throws: DeviceStateError.self) {
            try GuestDriver(EntropyDevice(), memory: driver.memory).window.load(.console(good))
        }
    }
}
