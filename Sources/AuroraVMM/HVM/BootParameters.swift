/// The `boot_params` ("zero page") of Linux's 64-bit boot protocol: memory map, command line, initial RAM disk, ACPI tables.
///
/// Source: Documentation/x86/boot.rst and zero-page.rst of Linux.
struct BootParameters {
    /// One line of the memory map.
    struct MemoryRange: Equatable {
        let start: UInt64
        let count: UInt64
        let kind: Kind
    }

    /// What a range of the memory map is.
    enum Kind: UInt32 {
        case usable = 1
        case reserved = 2
    }

    /// Guest-physical address of ACPI's root pointer.
    let acpiRoot: GuestAddress
    /// Where the command line lies, and how long it is without its zero byte.
    let commandLine: (address: GuestAddress, count: Int)
    /// Where the initial RAM disk lies, and its bytes.
    let initramfs: (address: GuestAddress, count: Int)
    let memoryMap: [MemoryRange]

    private enum Offset {
        static let acpiRoot = 0x070
        static let memoryMapCount = 0x1e8
        static let bootFlag = 0x1fe
        static let header = 0x202
        static let loaderType = 0x210
        static let initramfsAddress = 0x218
        static let initramfsCount = 0x21c
        static let commandLine = 0x228
        static let alignment = 0x230
        static let commandLineCount = 0x238
        static let memoryMap = 0x2d0
    }
    private static let memoryMapMax = 128
    private static let memoryMapEntryBytes = 20

    /// The map of a guest: a PC's low memory, the ACPI tables with the page that announces restores, memory up to the hole and after it.
    static func memoryMap(memoryBytes: UInt64) -> [MemoryRange] {
        var map = [
            MemoryRange(start: 0, count: HVMLayout.lowMemoryEnd, kind: .usable),
            MemoryRange(
                start: HVMLayout.acpiTables.rawValue, count: HVMLayout.highMemoryStart - HVMLayout.acpiTables.rawValue, kind: .reserved),
        ]
        for range in HVMLayout.memoryRanges(memoryBytes: memoryBytes) {
            let start = max(range.start, HVMLayout.highMemoryStart)
            map.append(MemoryRange(start: start, count: range.start + range.count - start, kind: .usable))
        }
        return map
    }

    /// The page.
    ///
    /// Addresses of the initial RAM disk and the command line must lie below 4 GiB.
    var page: [UInt8] {
        precondition(memoryMap.count <= BootParameters.memoryMapMax, "the memory map is too long")
        var page = [UInt8](repeating: 0, count: pageBytes)
        page.put(acpiRoot.rawValue, at: Offset.acpiRoot)
        page.put(UInt8(memoryMap.count), at: Offset.memoryMapCount)
        page.put(UInt16(0xaa55), at: Offset.bootFlag)
        page.put(UInt32(0x5372_6448), at: Offset.header)  // "HdrS"
        page.put(UInt8(0xff), at: Offset.loaderType)  // a loader without a number of its own
        page.put(UInt32(initramfs.address.rawValue), at: Offset.initramfsAddress)
        page.put(UInt32(initramfs.count), at: Offset.initramfsCount)
        page.put(UInt32(commandLine.address.rawValue), at: Offset.commandLine)
        page.put(UInt32(0x100_0000), at: Offset.alignment)
        page.put(UInt32(commandLine.count), at: Offset.commandLineCount)
        for (index, range) in memoryMap.enumerated() {
            let offset = Offset.memoryMap + index * BootParameters.memoryMapEntryBytes
            page.put(range.start, at: offset)
            page.put(range.count, at: offset + 8)
            page.put(range.kind.rawValue, at: offset + 16)
        }
        return page
    }
}
