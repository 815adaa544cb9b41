internal import CLinux
import Linux

/// The shim's memory slot: its image, page tables for its three L4 slots, descriptor tables, and parameters.
struct ShimSlot {
    let image: ShimImage
    let region: GuestMemory.Region
    var mapping: Mapping { region.mapping }
    /// Where the shim in this slot keeps `struct cpu`; a restored one may be older than `image`.
    var cpuOffset: Int
    /// Where it keeps `struct params`.
    var parametersOffset: Int

    init(image: ShimImage, region: GuestMemory.Region) {
        self.image = image
        self.region = region
        cpuOffset = ShimImage.offset(image.cpu)
        parametersOffset = ShimImage.offset(image.params)
    }

    static let present: UInt64 = 0x67
    static let user: UInt64 = 4
    static let writable: UInt64 = 2
    static let large: UInt64 = 0x80
    private static let uncached: UInt64 = 0x18
    static let noExecute: UInt64 = 1 << 63

    /// The guest-physical address of an offset in the slot.
    static func physical(_ offset: Int) -> UInt64 { ShimLayout.slotAddress.rawValue + UInt64(offset) }

    /// L4 entries that every page table of the guest must have.
    static var topEntries: [(index: Int, entry: UInt64)] {
        [
            (ShimLayout.slots.shim, physical(ShimLayout.shimL3) | present),
            (ShimLayout.slots.direct, physical(ShimLayout.directL3) | present),
            (ShimLayout.slots.m2p, physical(ShimLayout.m2pL3) | present),
        ]
    }

    func store<Value: FixedWidthInteger>(_ value: Value, at offset: Int) {
        (mapping.base + offset).storeBytes(of: value.littleEndian, as: Value.self)
        region.dirty.mark(offset: offset, count: MemoryLayout<Value>.size)
    }

    func load<Value: FixedWidthInteger>(_ offset: Int, as type: Value.Type = Value.self) -> Value {
        Value(littleEndian: (mapping.base + offset).loadUnaligned(as: Value.self))
    }

    /// An offset of a field of `struct params`.
    func parameter(_ offset: Int) -> Int { parametersOffset + offset }
    /// An offset of a field of `struct cpu`.
    func cpu(_ offset: Int) -> Int { cpuOffset + offset }

    /// Fills the slot of a new guest.
    ///
    /// The mapping is zero.
    func build(memoryBytes: Int, tscKilohertz: UInt64, pageTable: UInt64, isStrict: Bool) {
        mapping.base.copyMemory(from: image.bytes.baseAddress ?? UnsafeRawPointer(mapping.base), byteCount: image.bytes.count)
        buildPageTables(memoryBytes: memoryBytes)
        buildDescriptorTables()
        if isStrict { isolate() }
        let sharedInfoAddress = ShimLayout.virtualBase + UInt64(ShimLayout.sharedInfo)
        store(UInt64(memoryBytes), at: parameter(ShimLayout.paramRAMBytes))
        store(ShimSlot.physical(ShimLayout.shimL3), at: parameter(ShimLayout.paramL3Shim))
        store(ShimSlot.physical(ShimLayout.directL3), at: parameter(ShimLayout.paramL3Direct))
        store(ShimSlot.physical(ShimLayout.m2pL3), at: parameter(ShimLayout.paramL3M2P))
        store(sharedInfoAddress, at: parameter(ShimLayout.paramInitialVCPUInfo))
        store(ShimLayout.consolePort, at: parameter(ShimLayout.paramConsolePort))
        store(tscKilohertz, at: parameter(ShimLayout.paramTSCKilohertz))
        store(ShimLayout.devicePort, at: parameter(ShimLayout.paramDevicePorts))
        store(ShimSlot.physical(ShimLayout.sharedInfo), at: parameter(ShimLayout.paramVCPUInfoAddress))
        store(ShimLayout.eoiProbes, at: cpu(ShimLayout.cpuEOIProbes))
        store(sharedInfoAddress, at: cpu(ShimLayout.cpuVCPUInfo))
        store(pageTable, at: cpu(ShimLayout.cpuKernelCR3))
        for device in 0...ShimLayout.devicesMax {
            // One more than there are devices: the event of a restore.
            store(UInt16(ShimLayout.devicePort) + UInt16(device), at: cpu(ShimLayout.cpuPorts) + 2 * (device + 1))
        }
        store(UInt8(1), at: ShimLayout.sharedInfo + ShimLayout.vcpuMask)
        for word in 0..<64 { store(UInt64.max, at: ShimLayout.sharedInfo + ShimLayout.sharedMask + word * 8) }
    }

    private func buildPageTables(memoryBytes: Int) {
        // The image and the shared info page, and the APIC, by large pages: KVM walks these tables in software for every
        // instruction it emulates and every frame it pushes, and a level less saves it a read.
        store(ShimSlot.physical(ShimLayout.shimL2) | ShimSlot.present, at: ShimLayout.shimL3)
        store(ShimSlot.physical(0) | ShimSlot.present | ShimSlot.large, at: ShimLayout.shimL2)
        store(
            ShimLayout.apicAddress.rawValue | ShimSlot.present | ShimSlot.large | ShimSlot.uncached | ShimSlot.noExecute,
            at: ShimLayout.shimL2 + 8)
        let largePages = (memoryBytes + ShimLayout.largePage - 1) / ShimLayout.largePage
        for page in 0..<largePages {
            store(
                UInt64(page * ShimLayout.largePage) | ShimSlot.present | ShimSlot.large | ShimSlot.noExecute,
                at: ShimLayout.directL2 + page * 8)
        }
        for table in 0..<((largePages + 511) / 512) {
            store(ShimSlot.physical(ShimLayout.directL2 + table * pageBytes) | ShimSlot.present, at: ShimLayout.directL3 + table * 8)
        }
        store(ShimSlot.physical(ShimLayout.m2pL2) | ShimSlot.present, at: ShimLayout.m2pL3)
        for page in 0..<((mapping.count - ShimLayout.m2p) / ShimLayout.largePage) {
            store(
                ShimSlot.physical(ShimLayout.m2p + page * ShimLayout.largePage) | ShimSlot.present | ShimSlot.large | ShimSlot.noExecute,
                at: ShimLayout.m2pL2 + page * 8)
        }
        let frames = (mapping.base + ShimLayout.m2p).assumingMemoryBound(to: UInt64.self)
        for frame in 0..<(memoryBytes / pageBytes) { frames[frame] = UInt64(frame) }
    }

    private func buildDescriptorTables() {
        let gdt = ShimImage.offset(image.gdt)
        let tssOffset = ShimImage.offset(image.tss)
        // Ring 0 code and data for the stubs; ring 3 as Linux numbers it: 32-bit code, data, 64-bit code.
        for (index, descriptor) in [
            (1, 0x00af_9b00_0000_ffff), (2, 0x00cf_9300_0000_ffff), (4, 0x00cf_fb00_0000_ffff), (5, 0x00cf_f300_0000_ffff),
            (6, 0x00af_fb00_0000_ffff),
        ] as [(Int, UInt64)] { store(descriptor, at: gdt + index * 8) }
        let low = 0x67 | (image.tss & 0xff_ffff) << 16 | 0x89 << 40 | (image.tss >> 24 & 0xff) << 56
        store(low, at: gdt + 8 * 8)
        store(image.tss >> 32, at: gdt + 9 * 8)
        store(image.exceptionStackTop, at: tssOffset + 4)
        store(image.eventStackTop, at: tssOffset + 36)
        store(UInt16(0x68), at: tssOffset + 102)
        for vector in 0..<32 {
            let userMayRaise = vector == 3 || vector == 4
            let handler = vector == 3 ? image.breakpointStub : image.exceptionStubs + UInt64(vector) * ShimImage.exceptionStubBytes
            setGate(vector, handler, of: image.idt, privilege: userMayRaise ? 3 : 0, stack: 0)
        }
        for event in 0..<ShimLayout.eventVectors {
            setGate(
                Int(ShimLayout.eventVectorBase) + event, image.eventStubs + UInt64(event) * ShimImage.eventStubBytes, of: image.idt,
                privilege: 0, stack: 1)
        }
    }

    /// An interrupt gate to ring 0; events have a stack of their own, so that they never overwrite an exception's frame.
    func setGate(_ vector: Int, _ address: UInt64, of idt: UInt64, privilege: UInt64, stack: UInt64) {
        let offset = ShimImage.offset(idt) + vector * 16
        let low = address & 0xffff | 8 << 16 | stack << 32 | (0x8e | privilege << 5) << 40 | (address >> 16 & 0xffff) << 48
        store(low, at: offset)
        store(address >> 32, at: offset + 8)
    }
}
