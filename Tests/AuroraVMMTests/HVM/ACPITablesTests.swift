import Linux
import Testing

@testable import AuroraVMM

/// Reads the tables as a guest does: from the root pointer, checking lengths and checksums.
@Suite struct ACPITablesTests {
    private struct Reader {
        let bytes: [UInt8]
        let base: UInt64

        func integer(_ address: UInt64, _ count: Int) throws -> UInt64 {
            let offset = try #require(Int(exactly: address &- base))
            try #require(offset >= 0 && offset + count <= bytes.count, "address 0x\(String(address, radix: 16)) lies outside of the tables")
            return bytes[offset..<offset + count].reversed().reduce(0) { $0 << 8 | UInt64($1) }
        }

        func slice(_ address: UInt64, _ count: UInt64) throws -> [UInt8] {
            try (0..<count).map { UInt8(try integer(address + $0, 1)) }
        }

        /// The body of a table whose signature, length and checksum are right.
        func table(_ address: UInt64, _ signature: String) throws -> [UInt8] {
            let table = try slice(address, try integer(address + 4, 4))
            #expect(String(decoding: table[..<4], as: UTF8.self) == signature)
            #expect(table.reduce(0, &+) == 0, "the checksum of \(signature) is wrong")
            return table
        }

        func tables() throws -> (fixed: [UInt8], interrupts: [UInt8], definitions: [UInt8]) {
            #expect(String(decoding: try slice(base, 8), as: UTF8.self) == "RSD PTR ")
            #expect(try slice(base, 20).reduce(0, &+) == 0)
            #expect(try slice(base, 36).reduce(0, &+) == 0)
            let root = try integer(base + 24, 8)
            #expect(try table(root, "XSDT").count == 36 + 16)
            let fixed = try table(try integer(root + 36, 8), "FACP")
            let definitions = fixed[140..<148].reversed().reduce(0) { $0 << 8 | UInt64($1) }
            return (fixed, try table(try integer(root + 44, 8), "APIC"), try table(definitions, "DSDT"))
        }
    }

    private func reader(devices: Int) -> Reader {
        let list = (0..<devices).map { ACPITables.Device(window: 0xd000_0000 + UInt32($0 * pageBytes), interrupt: 16 + UInt32($0)) }
        return Reader(bytes: ACPITables(address: HVMLayout.acpiTables, devices: list).bytes, base: HVMLayout.acpiTables.rawValue)
    }

    @Test(arguments: [0, 1, 2, 3, 4, 10, 19])
    func aGuestFindsItsWayFromTheRoot(devices: Int) throws {
        let (fixed, interrupts, definitions) = try reader(devices: devices).tables()
        #expect(fixed.count == 276)
        #expect(fixed[114] & 0x10 != 0, "hardware-reduced")
        #expect(fixed[113] & 0x04 != 0, "the reset register is valid")
        #expect(fixed[128] == HVMLayout.resetValue)
        #expect(interrupts.count == 36 + 8 + 8 + 12)
        let text = definitions.map { $0 < 128 ? Character(UnicodeScalar($0)) : "." }
        #expect(String(text).components(of: "LNRO0005") == devices)
    }

    /// Each device's node: its window and its interrupt, in the order of the resource list.
    @Test func devicesHaveTheirWindowAndInterrupt() throws {
        let definitions = try reader(devices: 19).tables().definitions
        for index in 0..<19 {
            var resources: [UInt8] = [0x86, 9, 0, 1]
            resources.append(littleEndian: 0xd000_0000 + UInt32(index * 4096))
            resources.append(littleEndian: UInt32(4096))
            resources += [0x89, 6, 0, 3, 1]
            resources.append(littleEndian: 16 + UInt32(index))
            #expect(definitions.contains(resources), "device \(index) is not described")
        }
    }

    /// Two lengths a byte apart at each border of the encoding (ACPI 6.5, section 20.2.4).
    @Test(
        arguments: [
            (0, [1]), (62, [63]), (63, [0x41, 4]), (4093, [0x4f, 0xff]), (4094, [0x81, 0x00, 0x01]),
        ] as [(Int, [UInt8])])
    func packageLengthsCountThemselves(count: Int, prefix: [UInt8]) {
        let encoded = MachineLanguage.withLength([UInt8](repeating: 0, count: count))
        #expect(Array(encoded.dropLast(count)) == prefix)
        #expect(encoded.count == count + prefix.count)
    }

    @Test func nodesAreEncodedAsTheSpecificationShows() {
        #expect(MachineLanguage.name("_UID", MachineLanguage.integer(1)) == [0x08, 0x5f, 0x55, 0x49, 0x44, 1])
        #expect(MachineLanguage.integer(5) == [0x0a, 5])
        #expect(MachineLanguage.scope("SB", []) == [0x10, 6, 0x5c, 0x53, 0x42, 0x5f, 0x5f])
        #expect(MachineLanguage.package([[0], [1]]) == [0x12, 4, 2, 0, 1])
        #expect(MachineLanguage.string("A") == [0x0d, 0x41, 0])
    }
}

extension String {
    fileprivate func components(of word: String) -> Int { ranges(of: word).count }
}

extension [UInt8] {
    fileprivate func contains(_ part: [UInt8]) -> Bool { !ranges(of: part).isEmpty }
}
