import Linux
import Testing

@testable import AuroraVMM

@Suite struct HVMPlatformTests {
    private static let mebibyte = 1 << 20

    @Test func theInitramfsLiesBelowTheKernelWhereItFits() throws {
        let kernel = try TinyKernel.image(TinyKernel.file([0xf4], memoryBytes: 4096))
        let place = try HVMPlatform.placeInitramfs(15 << 20, kernel: kernel, memoryBytes: 64 << 20)
        #expect(place == GuestAddress(0x10_0000))
    }

    @Test func aLargeInitramfsFollowsTheKernel() throws {
        let kernel = try TinyKernel.image(TinyKernel.file([0xf4], memoryBytes: 0x3001))
        let place = try HVMPlatform.placeInitramfs(15 << 20 + 1, kernel: kernel, memoryBytes: 64 << 20)
        #expect(place == GuestAddress(TinyKernel.start + 0x4000))
    }

    /// The last size that fits, and one page more; above the hole there is no place for it.
    @Test(arguments: [64 << 20, 3 << 30, 8 << 30])
    func whatDoesNotFitIsRefused(memoryBytes: Int) throws {
        let kernel = try TinyKernel.image(TinyKernel.file([0xf4], memoryBytes: 4096))
        let room = min(memoryBytes, 3 << 30) - Int(TinyKernel.start) - 4096
        let place = try HVMPlatform.placeInitramfs(room, kernel: kernel, memoryBytes: memoryBytes)
        #expect(place == GuestAddress(TinyKernel.start + 4096))
        #expect(throws: MachineError.self) { try HVMPlatform.placeInitramfs(room + 1, kernel: kernel, memoryBytes: memoryBytes) }
    }

    @Test(arguments: [(UInt64(0x8_0000), UInt64(0x8_0000)), (0x100_0000, 0xff_ffff), (0x100_0000, 0x100_1000), (1 << 30, 1 << 30)])
    func aKernelThatCannotStartIsRefused(address: UInt64, entry: UInt64) throws {
        let kernel = try TinyKernel.image(TinyKernel.file([0xf4], at: address, entry: entry))
        #expect { try HVMPlatform.placeInitramfs(4096, kernel: kernel, memoryBytes: 2 << 30) } throws: { error in
            if case .kernel = error as? MachineError { true } else { false }
        }
    }

    @Test func everyDeviceHasAnInterruptOfItsOwn() {
        let inputs = HVMLayout.deviceInterrupts
        #expect(Set(inputs).count == inputs.count)
        #expect(inputs.allSatisfy { 5...23 ~= $0 }, "an IOAPIC has 24 inputs, and a PC uses the first")
    }
}

@Suite struct EarlySerialPortTests {
    @Test func bytesArePrintedUnlessTheyAreADivisor() {
        var port = EarlySerialPort()
        #expect(port.write(0x3f8, 65) == 65)
        #expect(port.write(0x3fb, 0x83) == nil)
        #expect(port.write(0x3f8, 1) == nil, "with the latch open it is the baud rate")
        #expect(port.read(0x3fb) == 0x83)
        #expect(port.write(0x3fb, 3) == nil)
        #expect(port.write(0x3f8, 66) == 66)
    }

    @Test func itIsAlwaysReadyAndNeverHasInput() {
        let port = EarlySerialPort()
        #expect(port.read(0x3fd) & 0x60 == 0x60, "both transmit registers are empty")
        #expect(port.read(0x3fd) & 1 == 0)
        #expect(EarlySerialPort.ports.allSatisfy { $0 == 0x3fd || port.read($0) == 0 })
    }
}

@Suite struct ProcessorFeaturesTests {
    /// A table as KVM gives it, with these entries: leaf, subleaf, whether it matters, then eax to edx.
    private func table(_ entries: [(UInt32, UInt32, Bool, [UInt32])]) -> CPUIDTable {
        var table = CPUIDTable(capacity: entries.count)
        table.withUnsafeBytes { bytes in
            for (index, entry) in entries.enumerated() {
                let words = [entry.0, entry.1, entry.2 ? 1 : 0] + entry.3
                for (word, value) in words.enumerated() {
                    bytes.storeBytes(of: value, toByteOffset: 8 + index * 40 + word * 4, as: UInt32.self)
                }
            }
        }
        return table
    }

    @Test func theGuestSeesOneProcessorOfManyFeatures() {
        let all: [UInt32] = [.max, .max, .max, .max]
        let result = ProcessorFeatures.table(
            from: table([
                (1, 0, false, [0x800f12, 0x0710_0800, 0x0000_0001, .max]), (4, 0, true, all), (0xb, 0, true, all), (0xb, 1, true, all),
                (7, 0, true, all), (0x8000_0008, 0, false, all),
            ]))
        #expect(result[1, 0] == [0x800f12, 0x0001_0800, 0x8100_0001, .max & ~(1 << 28)])
        #expect(result[4, 0]?[0] == 0x3fff)
        #expect(result[0xb, 0]?[0] == 0 && result[0xb, 0]?[1] == 1 && result[0xb, 1]?[3] == 0)
        #expect(result[0x8000_0008, 0]?[2] == ~0xf0ff)
        #expect(result[7, 0] == all, "what does not count processors is untouched")
    }
}
