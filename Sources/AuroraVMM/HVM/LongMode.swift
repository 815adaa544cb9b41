/// What a processor needs to start in 64-bit mode: descriptors and an identity mapping, as the boot protocol asks for.
enum LongMode {
    /// Selectors that the boot protocol fixes (`__BOOT_CS`, `__BOOT_DS`), and the task state segment after them.
    enum Selector {
        static let code: UInt16 = 0x10
        static let data: UInt16 = 0x18
        static let task: UInt16 = 0x20
    }

    /// The global descriptor table: two empty entries, code, data, and an empty 64-bit task state segment (two entries).
    static let descriptors: [UInt64] = [0, 0, 0x00af_9b00_0000_ffff, 0x00cf_9300_0000_ffff, 0x0000_8b00_0000_0067, 0]

    private static let tableFlags: UInt64 = 0x3  // present, writable
    private static let largePageFlags: UInt64 = 0x83
    private static let largePageBytes: UInt64 = 2 << 20
    private static let entries = 512

    /// Page tables that map the first GiB to itself: one page each of level 4, 3 and 2.
    ///
    /// - Parameter address: where the pages will lie.
    static func identityTables(at address: GuestAddress) -> [UInt64] {
        let page = UInt64(pageBytes)
        var tables = [UInt64](repeating: 0, count: 3 * entries)
        tables[0] = (address.rawValue + page) | tableFlags
        tables[entries] = (address.rawValue + 2 * page) | tableFlags
        for index in 0..<entries { tables[2 * entries + index] = UInt64(index) * largePageBytes | largePageFlags }
        return tables
    }

    /// The highest address mapped by `identityTables`, plus one.
    static let identityEnd: UInt64 = UInt64(entries) * largePageBytes
}
