import Linux

/// Reads a pv guest's page tables, and finds the addresses by which it uses given pages; changes nothing.
///
/// Only what the guest has accessed before counts, and as written only what it has written before (the entries' own bits): whoever
/// touches these addresses on the guest's behalf changes neither a table nor anything else, and causes no fault of the guest's own.
struct GuestTables {
    /// What a start does with a page.
    enum Use: UInt8 {
        case none = 0
        case read = 1
        case written = 2
    }
    /// Addresses of one address space, of pages; bit 0 says that they are written.
    struct Touches {
        /// The guest-physical address of the top table.
        let root: UInt64
        var addresses: [UInt64] = []
    }
    private struct Leaf {
        let address: UInt64
        let page: Int
        let isWritable: Bool
        /// By the kernel's map of all memory, where every page has an address.
        let isAlias: Bool
        let root: Int
    }

    private static let present: UInt64 = 1 << 0
    private static let writable: UInt64 = 1 << 1
    private static let user: UInt64 = 1 << 2
    private static let accessed: UInt64 = 1 << 5
    private static let dirty: UInt64 = 1 << 6
    private static let large: UInt64 = 1 << 7
    private static let frame: UInt64 = 0x000f_ffff_ffff_f000
    private static let entries = 512
    private static let kernelHalf = 256
    /// Documentation/arch/x86/x86_64/mm.rst of Linux: the direct map without randomization, which Xen's guests do not have.
    private static let directMap: ClosedRange<UInt64> = 0xffff_8880_0000_0000...0xffff_c87f_ffff_ffff

    private let memory: GuestMemory
    private let uses: [UInt8]
    private var leaves: [Leaf] = []
    private var tables: Set<Int> = []
    private var visits = 0
    /// Tables of a guest are hostile: they may lead round and round.
    private static let visitsMax = 8192
    private static let leavesMax = 1 << 18

    /// Finds the addresses of pages.
    ///
    /// - Parameters:
    ///   - roots: guest-physical addresses of top tables; what is none yields nothing.
    ///   - uses: `Use` of each page of `memory`.
    static func touches(in memory: GuestMemory, roots: [UInt64], uses: [UInt8]) -> [Touches] {
        var walk = GuestTables(memory: memory, uses: uses)
        // The kernel's half is the same in all of them.
        var indexes = 0..<GuestTables.entries
        for (index, root) in roots.enumerated() where walk.isRoot(root) {
            walk.walk(root, level: 4, indexes: indexes, address: 0, isWritable: true, root: index)
            indexes = 0..<GuestTables.kernelHalf
        }
        return walk.collected(roots)
    }

    private init(memory: GuestMemory, uses: [UInt8]) {
        self.memory = memory
        self.uses = uses
    }

    private func isRoot(_ address: UInt64) -> Bool {
        guard let table = table(address) else { return false }
        return GuestTables.isTop(UnsafeRawBufferPointer(start: table, count: pageBytes))
    }

    /// Whether the shim's own addresses lead to its memory slot: then the vCPU executes there what the VMM has written.
    static func reachShim(in memory: GuestMemory) -> Bool {
        let (l3, l2) = (ShimSlot.physical(ShimLayout.shimL3), ShimSlot.physical(ShimLayout.shimL2))
        guard let upper: UInt64 = try? memory.load(GuestAddress(l3)), let lower: UInt64 = try? memory.load(GuestAddress(l2)) else {
            return false
        }
        return upper & frame == l2 && upper & large == 0 && lower & frame == ShimSlot.physical(0) && lower & large != 0
    }

    /// Whether a page has the entries that every top table of a pv guest has.
    static func isTop(_ page: UnsafeRawBufferPointer) -> Bool {
        guard page.count >= pageBytes else { return false }
        return ShimSlot.topEntries.allSatisfy {
            page.loadUnaligned(fromByteOffset: $0.index * 8, as: UInt64.self) | GuestTables.accessed | GuestTables.dirty == $0.entry
        }
    }

    private func table(_ address: UInt64) -> UnsafePointer<UInt64>? {
        guard let pointer = try? memory.pointer(GuestAddress(address & GuestTables.frame), pageBytes) else { return nil }
        return UnsafePointer(pointer.assumingMemoryBound(to: UInt64.self))
    }

    private func page(_ address: UInt64) -> Int? {
        guard let place = try? memory.locate(GuestAddress(address & GuestTables.frame), pageBytes) else { return nil }
        return memory.regions[place.region].firstPage + place.offset / pageBytes
    }

    private mutating func walk(_ tableAddress: UInt64, level: Int, indexes: Range<Int>, address: UInt64, isWritable: Bool, root: Int) {
        guard visits < GuestTables.visitsMax, let table = table(tableAddress), let number = page(tableAddress) else { return }
        visits += 1
        tables.insert(number)
        let wanted = GuestTables.present | GuestTables.user | GuestTables.accessed
        for index in indexes {
            let entry = table[index]
            guard entry & wanted == wanted else { continue }
            // The shim's own views of all memory are no addresses of the kernel's.
            if level == 4, index == ShimLayout.slots.direct || index == ShimLayout.slots.m2p { continue }
            let high: UInt64 = level == 4 && index >= GuestTables.kernelHalf ? 0xffff_0000_0000_0000 : 0
            let place = address | high | UInt64(index) << UInt64(12 + 9 * (level - 1))
            let isWritable = isWritable && entry & GuestTables.writable != 0
            if level == 1 {
                add(entry & GuestTables.frame, at: place, isWritable: isWritable && entry & GuestTables.dirty != 0, root: root)
            } else if entry & GuestTables.large == 0 {
                walk(
                    entry & GuestTables.frame, level: level - 1, indexes: 0..<GuestTables.entries, address: place, isWritable: isWritable,
                    root: root)
            } else if level == 2 {
                let isWritable = isWritable && entry & GuestTables.dirty != 0
                for page in 0..<UInt64(GuestTables.entries) {
                    let offset = page * UInt64(pageBytes)
                    add(entry & GuestTables.frame + offset, at: place + offset, isWritable: isWritable, root: root)
                }
            }
        }
    }

    private mutating func add(_ physical: UInt64, at address: UInt64, isWritable: Bool, root: Int) {
        guard leaves.count < GuestTables.leavesMax, let page = page(physical), page < uses.count, uses[page] != Use.none.rawValue else {
            return
        }
        let isAlias = GuestTables.directMap.contains(address)
        leaves.append(
            Leaf(
                address: address, page: page, isWritable: isWritable && uses[page] == Use.written.rawValue, isAlias: isAlias, root: root))
    }

    /// The addresses by root.
    ///
    /// The kernel's own map counts for pages that have no other address, and for tables. Tables are only read: KVM watches them.
    private func collected(_ roots: [UInt64]) -> [Touches] {
        let named = Set(leaves.lazy.filter { !$0.isAlias }.map(\.page))
        var result = roots.map { Touches(root: $0) }
        for leaf in leaves {
            let isTable = tables.contains(leaf.page)
            if leaf.isAlias, named.contains(leaf.page), !isTable { continue }
            result[leaf.root].addresses.append(leaf.address | (leaf.isWritable && !isTable ? 1 : 0))
        }
        return result.filter { !$0.addresses.isEmpty }
    }
}
