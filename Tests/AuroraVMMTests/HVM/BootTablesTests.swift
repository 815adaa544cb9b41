import Linux
import Testing

@testable import AuroraVMM

/// Integers of a table under test.
extension [UInt8] {
    fileprivate func integer(_ offset: Int, _ count: Int) -> UInt64 {
        self[offset..<offset + count].reversed().reduce(0) { $0 << 8 | UInt64($1) }
    }
}

@Suite struct BootParametersTests {
    private static let gibibyte: UInt64 = 1 << 30

    /// Offsets as in Documentation/x86/zero-page.rst and boot.rst of Linux.
    @Test func thePageSaysWhatTheBootProtocolAsksFor() {
        let page = BootParameters(
            acpiRoot: GuestAddress(0xe_0000), commandLine: (GuestAddress(0x2_0000), 77), initramfs: (GuestAddress(0x10_0000), 12345),
            memoryMap: BootParameters.memoryMap(memoryBytes: 128 << 20)
        ).page
        #expect(page.count == 4096)
        #expect(page.integer(0x070, 8) == 0xe_0000)
        #expect(page.integer(0x1ef, 1) == 0, "a sentinel that is not zero makes the kernel ignore the page")
        #expect(page.integer(0x1fe, 2) == 0xaa55)
        #expect(Array(page[0x202..<0x206]) == Array("HdrS".utf8))
        #expect(page.integer(0x210, 1) == 0xff)
        #expect(page.integer(0x218, 4) == 0x10_0000)
        #expect(page.integer(0x21c, 4) == 12345)
        #expect(page.integer(0x228, 4) == 0x2_0000)
        #expect(page.integer(0x238, 4) == 77)
        #expect(page.integer(0x1e8, 1) == 3)
        let lines = (0..<3).map { line in
            (page.integer(0x2d0 + line * 20, 8), page.integer(0x2d8 + line * 20, 8), page.integer(0x2e0 + line * 20, 4))
        }
        #expect(lines[0] == (0, 0x9_fc00, 1))
        #expect(lines[1] == (0xe_0000, 0x2_0000, 2))
        #expect(lines[2] == (0x10_0000, 127 << 20, 1))
    }

    @Test(arguments: [64 << 20, 1 << 30, 3 << 30, 3 << 30 + 2 << 20, 4 << 30, 8 << 30, 512 << 30] as [UInt64])
    func theMapIsTheMemoryWithoutTheHole(memoryBytes: UInt64) {
        let ranges = HVMLayout.memoryRanges(memoryBytes: memoryBytes)
        #expect(ranges.reduce(0) { $0 + $1.count } == memoryBytes)
        let map = BootParameters.memoryMap(memoryBytes: memoryBytes)
        var end: UInt64 = 0
        for line in map {
            #expect(line.start >= end && line.count > 0, "the lines are in order and do not overlap")
            end = line.start + line.count
            #expect(end <= HVMLayout.holeStart || line.start >= HVMLayout.holeEnd, "nothing lies in the hole")
            #expect(ranges.contains { line.start >= $0.start && end <= $0.start + $0.count }, "every line is memory")
        }
        let firmware = HVMLayout.highMemoryStart - HVMLayout.lowMemoryEnd
        #expect(map.filter { $0.kind == .usable }.reduce(0) { $0 + $1.count } == memoryBytes - firmware)
    }

    @Test func whatTheVMMPlacesInLowMemoryDoesNotOverlap() {
        let places: [(UInt64, Int)] = [
            (HVMLayout.descriptorTable.rawValue, LongMode.descriptors.count * 8), (HVMLayout.bootParameters.rawValue, pageBytes),
            (HVMLayout.pageTables.rawValue, 3 * pageBytes), (HVMLayout.commandLine.rawValue, HVMLayout.commandLineBytesMax),
        ]
        for (first, second) in zip(places, places.dropFirst()) { #expect(first.0 + UInt64(first.1) <= second.0) }
        #expect(places.allSatisfy { $0.0 + UInt64($0.1) <= HVMLayout.lowMemoryEnd })
        #expect(HVMLayout.acpiTables.rawValue + UInt64(HVMLayout.acpiTablesBytesMax) == HVMLayout.generation.rawValue)
        #expect(HVMLayout.generation.rawValue + UInt64(pageBytes) == HVMLayout.highMemoryStart)
    }
}

@Suite struct LongModeTests {
    /// Translates as the processor does.
    private func translate(_ virtual: UInt64, _ tables: [UInt64], at base: UInt64) -> UInt64? {
        var table = base
        for shift: UInt64 in [39, 30, 21] {
            let entry = tables[Int(table - base) / 8 + Int(virtual >> shift & 511)]
            guard entry & 1 != 0 else { return nil }
            if entry & 0x80 != 0 { return entry & ~((1 << shift) - 1) | virtual & ((1 << shift) - 1) }
            table = entry & ~0xfff
            guard table >= base, table < base + UInt64(tables.count * 8) else { return nil }
        }
        return nil
    }

    @Test func theFirstGibibyteIsMappedToItselfAndNothingElse() {
        let base = HVMLayout.pageTables
        let tables = LongMode.identityTables(at: base)
        #expect(base.rawValue % 4096 == 0)
        for address: UInt64 in [0, 0x7000, 0x100_0000, 0x3fff_ffff, 0x1234_5678] {
            #expect(translate(address, tables, at: base.rawValue) == address)
        }
        for address: UInt64 in [LongMode.identityEnd, 1 << 39, 0xffff_ffff_8100_0000 & (1 << 48 - 1)] {
            #expect(translate(address, tables, at: base.rawValue) == nil)
        }
    }

    /// Limits, types and flags as in the Intel manual, volume 3, section 3.4.5.
    @Test func descriptorsAreFlatAndWhereTheSelectorsPoint() {
        func descriptor(_ selector: UInt16) -> UInt64 { LongMode.descriptors[Int(selector / 8)] }
        let code = descriptor(LongMode.Selector.code)
        #expect(code >> 40 & 0xff == 0x9b, "present, ring 0, code")
        #expect(code >> 53 & 1 == 1 && code >> 54 & 1 == 0, "64 bit")
        #expect(descriptor(LongMode.Selector.data) >> 40 & 0xff == 0x93, "present, ring 0, writable data")
        #expect(descriptor(LongMode.Selector.task) >> 40 & 0xff == 0x8b, "present, busy task state segment")
        #expect(LongMode.descriptors[0] == 0)
    }
}
