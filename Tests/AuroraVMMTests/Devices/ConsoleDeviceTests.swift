import Testing

@testable import AuroraVMM

@Suite struct ConsoleDeviceTests {
    @Test(arguments: [false, true], [UInt64(0), VirtioFeature.eventIndex])
    func whatTheGuestPrintsIsLogged(indirect: Bool, without: UInt64) throws {
        let log = ConsoleLog()
        let driver = try GuestDriver(ConsoleDevice(log: log))
        driver.start(without: without)
        for number in 0..<500 {
            let answer = driver.request(1, [.readable(Array("line ".utf8)), .readable(Array("\(number)\n".utf8))], indirect: indirect)
            #expect(answer?.length == 0)
        }
        #expect(log.lastLines(2) == ["line 498", "line 499"])
        #expect(!driver.needsReset)
    }

    @Test func typedBytesReachTheGuestInOrder() throws {
        let transport = ConsoleDevice(log: ConsoleLog())
        let driver = try GuestDriver(transport)
        driver.start()
        let window = try #require(driver.window as? MMIOTransport<ConsoleDevice>)
        let taken = try window.withDevice { device, link in try device.type(Array("hello".utf8), link) }
        #expect(taken)
        driver.offer(0, [.writable(3)])
        driver.offer(0, [.writable(16)])
        driver.notify(0)
        #expect(driver.takeUsed(0)?.bytes == Array("hel".utf8))
        let second = try #require(driver.takeUsed(0))
        #expect(second.length == 2)
        #expect(Array(second.bytes.prefix(2)) == Array("lo".utf8))
    }

    @Test func tooMuchTypingIsRefused() throws {
        let driver = try GuestDriver(ConsoleDevice(log: ConsoleLog()))
        driver.start()
        let window = try #require(driver.window as? MMIOTransport<ConsoleDevice>)
        let block = [UInt8](repeating: 65, count: ConsoleDevice.inputBytesMax)
        let first = try window.withDevice { device, link in try device.type(block, link) }
        let second = try window.withDevice { device, link in try device.type([66], link) }
        #expect(first && !second)
    }

    @Test func theTailIsBounded() {
        let log = ConsoleLog()
        for _ in 0..<100 {
            [UInt8](repeating: 65, count: 5000).withUnsafeBytes { log.append($0) }
        }
        #expect(log.tail.utf8.count == ConsoleLog.tailBytesMax)
    }
}
