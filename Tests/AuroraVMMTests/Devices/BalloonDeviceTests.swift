import Linux
import Testing

@testable import AuroraVMM

@Suite struct BalloonDeviceTests {
    private func balloon() throws -> GuestDriver {
        let driver = try GuestDriver(BalloonDevice())
        driver.start(size: 32)
        return driver
    }

    private func list(_ pages: [UInt32]) -> [UInt8] {
        var bytes: [UInt8] = []
        for page in pages { bytes.append(littleEndian: page) }
        return bytes
    }

    private func fill(_ driver: GuestDriver, _ pages: ClosedRange<UInt64>) {
        for page in pages { driver.poke(page * 4096 + 100, UInt32(0xabcd)) }
    }

    @Test func inflatedPagesAreGivenBackAndMarked() throws {
        let driver = try balloon()
        fill(driver, 512...520)
        driver.memory.regions[0].dirty.drain { _ in }
        #expect(driver.request(0, [.readable(list([512, 513, 514, 520, 519, 516]))])?.length == 0)
        let released = (UInt64(512)...520).filter { driver.peek($0 * 4096 + 100, as: UInt32.self) == 0 }
        #expect(released == [512, 513, 514, 516, 519, 520])
        var dirty: Set<Int> = []
        driver.memory.regions[0].dirty.drain { dirty.insert($0) }
        #expect(dirty.isSuperset(of: [512, 513, 514, 516, 519, 520]))
        #expect(!dirty.contains(515))
    }

    @Test(arguments: [UInt32(2048), 0xffff_ffff])
    func pagesThatAreNotMemoryNeedAReset(page: UInt32) throws {
        let driver = try balloon()
        driver.offer(0, [.readable(list([page]))])
        driver.notify(0)
        #expect(driver.needsReset)
    }

    @Test func raggedListsNeedAReset() throws {
        let driver = try balloon()
        driver.offer(0, [.readable([1, 2, 3])])
        driver.notify(0)
        #expect(driver.needsReset)
    }

    @Test func reportedPagesAreGivenBack() throws {
        let driver = try balloon()
        fill(driver, 600...603)
        let flags: UInt16 = 2
        driver.offer(
            2, [.raw(address: 600 * 4096, count: 2 * 4096, flags: flags), .raw(address: 602 * 4096 + 8, count: 8192, flags: flags)])
        driver.notify(2)
        #expect(driver.takeUsed(2)?.length == 0)
        let kept = (UInt64(600)...603).filter { driver.peek($0 * 4096 + 100, as: UInt32.self) != 0 }
        #expect(kept == [602])
    }

    /// A guest reports most of its memory soon after its start: an epoch must not carry what was zeros all the time.
    @Test func onlyPagesThatHeldSomethingAreDeclaredWritten() throws {
        let driver = try balloon()
        driver.poke(604 * 4096 + 100, UInt32(0xabcd))
        driver.memory.regions[0].dirty.drain { _ in }
        driver.offer(2, [.raw(address: 600 * 4096, count: 128 * 4096, flags: 2)])
        driver.notify(2)
        #expect(driver.takeUsed(2)?.length == 0)
        #expect(driver.peek(604 * 4096 + 100, as: UInt32.self) == 0)
        var dirty: Set<Int> = []
        driver.memory.regions[0].dirty.drain { dirty.insert($0) }
        #expect(dirty.intersection(600..<728) == [604])
    }

    @Test func theTargetIsShownAndTheAnswerKept() throws {
        let driver = try balloon()
        let window = try #require(driver.window as? MMIOTransport<BalloonDevice>)
        let interrupts = driver.line.value
        window.withDevice { device, link in device.setTarget(pages: 77, link) }
        #expect(driver.line.value == interrupts + 1)
        #expect(driver.read(MMIORegister.interruptStatus) == 3)
        #expect(driver.read(MMIORegister.configuration) == 77)
        driver.write(MMIORegister.interruptAcknowledge, 3)
        #expect(driver.read(MMIORegister.interruptStatus) == 1)
        driver.write(MMIORegister.configuration + 4, 50)
        #expect(driver.read(MMIORegister.configuration + 4) == 50)
        driver.write(MMIORegister.configuration, 1)
        #expect(driver.read(MMIORegister.configuration) == 77)
        let copy = try GuestDriver(BalloonDevice(), memory: driver.memory)
        try copy.window.load(driver.window.save())
        #expect(copy.read(MMIORegister.configuration + 4) == 50)
    }
}
