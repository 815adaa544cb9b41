import Linux
import Testing

@testable import AuroraVMM

@Suite struct MMIOTransportTests {
    private func idle() throws -> GuestDriver {
        try GuestDriver(BlockDevice(backend: MemoryBackend(byteCount: 1 << 20), serial: "test"))
    }

    private func running() throws -> GuestDriver {
        let driver = try idle()
        driver.start()
        return driver
    }

    /// Everything a register write could change.
    private func snapshot(_ driver: GuestDriver) -> (VirtioDeviceState, [UInt8]) {
        (driver.window.save(), (0..<4096).map { UInt8(truncatingIfNeeded: driver.window.read(offset: $0, size: 1)) })
    }

    @Test func anIdleDeviceShowsWhatItIs() throws {
        let driver = try idle()
        #expect(driver.read(MMIORegister.magic) == 0x7472_6976)
        #expect(driver.read(MMIORegister.version) == 2)
        #expect(driver.read(MMIORegister.deviceType) == 2)
        #expect(driver.status == 0)
        #expect(driver.offeredFeatures & VirtioFeature.common == VirtioFeature.common)
        driver.write(MMIORegister.deviceFeaturesSelect, 2)
        #expect(driver.read(MMIORegister.deviceFeatures) == 0)
        #expect(driver.read(0x0b0) == .max)
        driver.write(MMIORegister.queueSelect, 0)
        #expect(driver.read(MMIORegister.queueSizeMax) == 256)
        driver.write(MMIORegister.queueSelect, 1)
        #expect(driver.read(MMIORegister.queueSizeMax) == 0)
    }

    @Test func theUsedBufferBitIsPermanentOnceTheDriverIsReady() throws {
        let driver = try idle()
        #expect(driver.read(MMIORegister.interruptStatus) == 0)
        driver.start()
        #expect(driver.read(MMIORegister.interruptStatus) == 1)
        driver.write(MMIORegister.interruptAcknowledge, 1)
        #expect(driver.read(MMIORegister.interruptStatus) == 1)
        driver.write(MMIORegister.status, 0)
        #expect(driver.read(MMIORegister.interruptStatus) == 0)
    }

    /// Every word of the register area, written with several values while the driver is ready (as in CVE-2026-5747):
    /// nothing may change.
    ///
    /// Doorbells and the status register are separate.
    @Test(arguments: [UInt32(0), 1, 2, 128, 0x1000, 0xffff_ffff])
    func registersAreFrozenAfterDriverOK(value: UInt32) throws {
        let driver = try running()
        let before = snapshot(driver)
        for offset in stride(from: 0, to: 0x100, by: 4) where offset != MMIORegister.status {
            driver.write(offset, value)
            let after = snapshot(driver)
            #expect(after.0 == before.0 && after.1 == before.1, "register 0x\(String(offset, radix: 16))")
        }
        #expect(driver.readSectors(0, count: 512).status == 0)
    }

    @Test(arguments: [UInt32(0), 1, 2, 128, 0x1000, 0xffff_ffff])
    func registersAreFrozenInALoadedState(value: UInt32) throws {
        let driver = try running()
        let copy = try GuestDriver(BlockDevice(backend: MemoryBackend(byteCount: 1 << 20), serial: "test"), memory: driver.memory)
        try copy.window.load(driver.window.save())
        let before = snapshot(copy)
        #expect(before.0 == driver.window.save())
        for offset in stride(from: 0, to: 0x100, by: 4) where offset != MMIORegister.status { copy.write(offset, value) }
        let after = snapshot(copy)
        #expect(after.0 == before.0 && after.1 == before.1)
        copy.adoptQueues(of: driver)
        #expect(copy.readSectors(0, count: 512).status == 0)
    }

    @Test func aResetUnfreezesAndForgets() throws {
        let driver = try running()
        driver.write(MMIORegister.status, 0)
        #expect(driver.status == 0)
        let fresh = try idle()
        #expect(driver.window.save() == fresh.window.save())
        driver.notify(0)
        driver.start(size: 16)
        #expect(driver.readSectors(0, count: 512).status == 0)
    }

    @Test func oddSizedAccessIsIgnored() throws {
        let driver = try idle()
        for size in [0, 1, 2, 3, 8] { driver.window.write(offset: MMIORegister.status, size: size, value: 1) }
        driver.window.write(offset: MMIORegister.status + 1, size: 4, value: 1)
        driver.window.write(offset: 0x0ff8, size: 8, value: 1)
        driver.window.write(offset: 0x0fff, size: 4, value: 1)
        driver.window.write(offset: .max, size: 4, value: 1)
        #expect(driver.status == 0)
        #expect(driver.window.read(offset: 0xffe, size: 4) == 0)
        #expect(driver.window.read(offset: -1, size: 4) == 0)
        #expect(driver.window.read(offset: .max, size: 8) == 0)
        #expect(driver.window.read(offset: 0, size: 3) == 0)
    }

    // MARK: - Status

    @Test func stepsCannotBeSkipped() throws {
        let driver = try idle()
        driver.write(MMIORegister.status, 2)
        #expect(driver.status == 0)
        driver.write(MMIORegister.status, 1)
        driver.write(MMIORegister.status, 5)
        #expect(driver.status == 1)
        driver.write(MMIORegister.status, 3)
        driver.write(MMIORegister.status, 7)
        #expect(driver.status == 3)
    }

    @Test func bitsCannotBeTakenBack() throws {
        let driver = try running()
        driver.write(MMIORegister.status, 3)
        #expect(driver.status == 15)
        driver.write(MMIORegister.status, 128)
        #expect(driver.status == 15 | 128)
        driver.write(MMIORegister.status, 15)
        #expect(driver.status == 15 | 128)
    }

    @Test func aFailedDriverIsNotServed() throws {
        let driver = try running()
        driver.write(MMIORegister.status, 128)
        #expect(driver.readSectors(0, count: 512).status == nil)
    }

    @Test func featuresThatWereNotOfferedAreRefused() throws {
        for bad in [UInt64(1) << 40, NetworkFeature.macAddress | BlockFeature.readOnly] {
            let driver = try idle()
            driver.negotiate(VirtioFeature.version1 | bad)
            #expect(driver.status == 3)
        }
        let legacy = try idle()
        legacy.negotiate(BlockFeature.flush)
        #expect(legacy.status == 3)
        let decent = try idle()
        decent.negotiate(VirtioFeature.version1)
        #expect(decent.status == 11)
    }

    @Test func featuresAreFrozenByFeaturesOK() throws {
        let driver = try idle()
        driver.negotiate(VirtioFeature.version1)
        let before = driver.window.save()
        driver.write(MMIORegister.driverFeaturesSelect, 1)
        driver.write(MMIORegister.driverFeatures, .max)
        driver.write(MMIORegister.driverFeaturesSelect, 1)
        guard case .block(let state) = before, case .block(let after) = driver.window.save() else { return #expect(Bool(false)) }
        #expect(state.driverFeatures == after.driverFeatures)
    }

    // MARK: - Queues

    @Test(arguments: [UInt32(0), 3, 48, 512, 0x1_0000, 0xffff_ffff])
    func badQueueSizesAreRefused(size: UInt32) throws {
        let driver = try idle()
        driver.negotiate()
        driver.setUpQueue(0, size: 16, base: 0x8000, rawSize: size)
        #expect(driver.read(MMIORegister.queueReady) == 0)
        #expect(driver.needsReset)
    }

    @Test(arguments: [UInt64(0x8001), 0x8008, 0x7f_ffff, 0x80_0000, 0x7f_fff0, .max, .max - 15, 1 << 63])
    func badRingAddressesAreRefused(base: UInt64) throws {
        let driver = try idle()
        driver.negotiate()
        driver.setUpQueue(0, size: 16, base: base)
        #expect(driver.read(MMIORegister.queueReady) == 0)
        #expect(driver.needsReset)
        driver.write(MMIORegister.status, 0)
        driver.start()
        #expect(driver.readSectors(0, count: 512).status == 0)
    }

    @Test func aReadyQueueIsFrozenBeforeDriverOK() throws {
        let driver = try idle()
        driver.negotiate()
        driver.setUpQueue(0, size: 16, base: 0x8000)
        let before = driver.window.save()
        driver.write(MMIORegister.queueSize, 32)
        driver.write(MMIORegister.descriptorTableLow, 0x4000)
        driver.write(MMIORegister.deviceRingHigh, 1)
        #expect(driver.window.save() == before)
        driver.write(MMIORegister.queueReady, 0)
        driver.write(MMIORegister.queueSize, 32)
        #expect(driver.window.save() != before)
    }

    @Test func queuesAreNotSetUpBeforeFeatures() throws {
        let driver = try idle()
        driver.setUpQueue(0, size: 16, base: 0x8000)
        #expect(driver.read(MMIORegister.queueReady) == 0)
        #expect(!driver.needsReset)
    }

    @Test func queuesThatWereNotSetUpAreNotServed() throws {
        let driver = try idle()
        driver.negotiate()
        driver.write(MMIORegister.status, 15)
        driver.notify(0)
        driver.notify(17)
        driver.write(MMIORegister.queueNotify, 17)
        driver.write(MMIORegister.queueNotify, .max)
        #expect(driver.status == 15)
    }
}
