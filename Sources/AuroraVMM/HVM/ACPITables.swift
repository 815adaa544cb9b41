/// The ACPI tables of an hvm guest: one processor, one IOAPIC, virtio-mmio devices, power-off and reset.
///
/// They are of the "hardware-reduced" kind: the guest finds no PIT, PIC, keyboard controller or CMOS clock, and does not look
/// for them. A stock `virtio_mmio` finds its devices here, with no module of ours.
///
/// Source: ACPI Specification 6.5, chapter 5.
struct ACPITables {
    /// A virtio-mmio window and its input of the IOAPIC.
    struct Device: Equatable {
        let window: UInt32
        let interrupt: UInt32
    }

    /// Where the tables lie; the root pointer comes first.
    let address: GuestAddress
    let devices: [Device]

    private static let headerBytes = 36
    private static let rootBytes = 36
    private static let alignment = 16
    private static let maker = Array("AURORA".utf8)
    /// The sleep type that means power-off; what a guest writes there is ours to choose.
    static let powerOffType: UInt8 = 5

    /// All tables, to be placed at `address`.
    var bytes: [UInt8] {
        var result = [UInt8](repeating: 0, count: ACPITables.rootBytes)
        func place(_ table: [UInt8]) -> UInt64 {
            while result.count % ACPITables.alignment != 0 { result.append(0) }
            defer { result += table }
            return address.rawValue + UInt64(result.count)
        }
        let definitions = place(ACPITables.table("DSDT", revision: 2, definitionBlock))
        let fixed = place(ACPITables.fixedDescription(definitions: definitions))
        let interrupts = place(ACPITables.interruptControllers())
        var list: [UInt8] = []
        list.append(littleEndian: fixed)
        list.append(littleEndian: interrupts)
        let root = place(ACPITables.table("XSDT", revision: 1, list))
        result.replaceSubrange(0..<ACPITables.rootBytes, with: ACPITables.rootPointer(to: root))
        return result
    }

    /// RSDP: two checksums, one over the first 20 bytes as version 1 had it, one over all.
    private static func rootPointer(to table: UInt64) -> [UInt8] {
        var bytes = Array("RSD PTR ".utf8) + [0] + maker + [2]
        bytes.append(littleEndian: UInt32(0))  // no table for 32-bit systems
        bytes.append(littleEndian: UInt32(rootBytes))
        bytes.append(littleEndian: table)
        bytes += [0, 0, 0, 0]
        bytes[8] = checksum(bytes[..<20])
        bytes[32] = checksum(bytes[...])
        return bytes
    }

    /// A table with its header and checksum.
    private static func table(_ signature: String, revision: UInt8, _ body: [UInt8]) -> [UInt8] {
        var bytes = Array(signature.utf8)
        bytes.append(littleEndian: UInt32(headerBytes + body.count))
        bytes += [revision, 0] + maker + Array("AURORAVM".utf8)
        bytes.append(littleEndian: UInt32(1))
        bytes += Array("AURO".utf8)
        bytes.append(littleEndian: UInt32(1))
        bytes += body
        bytes[9] = checksum(bytes[...])
        return bytes
    }

    /// What makes the sum of all bytes zero.
    private static func checksum(_ bytes: ArraySlice<UInt8>) -> UInt8 { 0 &- bytes.reduce(0, &+) }

    /// FADT: hardware-reduced, with registers to sleep and to reset.
    private static func fixedDescription(definitions: UInt64) -> [UInt8] {
        let resetSupported: UInt32 = 1 << 10
        let hardwareReduced: UInt32 = 1 << 20
        let notPresent: UInt16 = 1 << 2 | 1 << 5  // VGA, CMOS clock; the keyboard controller is absent by its bit being zero
        var body = [UInt8](repeating: 0, count: 276 - headerBytes)
        func offset(_ inTable: Int) -> Int { inTable - headerBytes }
        body.put(notPresent, at: offset(109))
        body.put(resetSupported | hardwareReduced, at: offset(112))
        body.replaceSubrange(offset(116)..<offset(128), with: portRegister(HVMLayout.resetPort))
        body.put(HVMLayout.resetValue, at: offset(128))
        body.put(UInt8(5), at: offset(131))  // minor version
        body.put(definitions, at: offset(140))
        body.replaceSubrange(offset(244)..<offset(256), with: portRegister(HVMLayout.sleepControlPort))
        body.replaceSubrange(offset(256)..<offset(268), with: portRegister(HVMLayout.sleepStatusPort))
        return table("FACP", revision: 6, body)
    }

    /// A generic address structure: an I/O port of one byte.
    private static func portRegister(_ port: UInt16) -> [UInt8] {
        var bytes: [UInt8] = [1, 8, 0, 1]
        bytes.append(littleEndian: UInt64(port))
        return bytes
    }

    /// MADT: one local APIC, one IOAPIC whose inputs count from zero, and no PIC.
    private static func interruptControllers() -> [UInt8] {
        var body: [UInt8] = []
        body.append(littleEndian: HVMLayout.localAPIC)
        body.append(littleEndian: UInt32(0))
        body += [0, 8, 0, 0]
        body.append(littleEndian: UInt32(1))  // processor 0, enabled
        body += [1, 12, 0, 0]
        body.append(littleEndian: HVMLayout.ioapic)
        body.append(littleEndian: UInt32(0))
        return table("APIC", revision: 5, body)
    }

    /// DSDT: how to power off, and the devices.
    ///
    /// LNRO0005 is the name that Linux's virtio_mmio knows.
    private var definitionBlock: [UInt8] {
        let sleep = MachineLanguage.package([ACPITables.powerOffType, 0, 0, 0].map(MachineLanguage.integer))
        var nodes: [UInt8] = []
        for (index, device) in devices.enumerated() {
            let number = UInt8(truncatingIfNeeded: index)
            let resources = MachineLanguage.resources(window: device.window, count: UInt32(pageBytes), interrupt: device.interrupt)
            let digits = String(index)
            nodes += MachineLanguage.device(
                "V" + String(repeating: "0", count: max(0, 3 - digits.count)) + digits,
                MachineLanguage.name("_HID", MachineLanguage.string("LNRO0005"))
                    + MachineLanguage.name("_UID", MachineLanguage.integer(number))
                    + MachineLanguage.name("_CRS", MachineLanguage.buffer(resources)))
        }
        return MachineLanguage.name("_S5_", sleep) + MachineLanguage.scope("_SB_", nodes)
    }
}
