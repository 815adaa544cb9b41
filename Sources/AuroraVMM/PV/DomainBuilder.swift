/// Lays out a Xen-PV domain in guest memory: kernel, initramfs, physical-to-machine table, start_info, first page tables.
///
/// Source: xen/include/public/xen.h ("start-of-day memory layout") and arch/x86/xen of Linux. Pieces go below the kernel
/// where they fit, so that a small guest needs no memory beyond the kernel's own.
struct DomainBuilder {
    /// What a vCPU needs to start.
    struct Domain: Equatable {
        let entry: UInt64
        let startInfo: UInt64
        let stack: UInt64
        let pageTable: UInt64
        let consoleRing: GuestAddress
    }

    private static let lowStart: UInt64 = 1 << 20
    private static let commandLineBytesMax = 1023
    private static let tableFlags: UInt64 = 0x67  // present, writable, user, accessed, dirty
    private static let noExecute: UInt64 = 1 << 63
    private static let stackBytes: UInt64 = 16384
    /// Xen promises at least this much mapped beyond what it placed.
    private static let slackBytes: UInt64 = 1 << 20

    private let memory: GuestMemory
    private let memoryBytes: UInt64
    private let kernel: KernelImage
    private let virtualBase: UInt64
    private let initialP2M: UInt64
    private let entry: UInt64
    private var low: UInt64
    private var high: UInt64

    /// - Throws: `MachineError.kernel` for a kernel without Xen-PV support, or one that does not fit.
    init(memory: GuestMemory, memoryBytes: Int, kernel: KernelImage) throws(MachineError) {
        guard let entry = kernel.xenEntry, let base = kernel.virtualBase, let p2m = kernel.initialP2M else {
            throw .kernel("it has no Xen-PV notes; pv mode needs a kernel built with CONFIG_XEN_PV, such as Debian's")
        }
        guard kernel.end < UInt64(memoryBytes) else {
            throw .configuration("the kernel needs \(kernel.end >> 20) MiB, the memory is \(memoryBytes >> 20) MiB")
        }
        self.memory = memory
        self.memoryBytes = UInt64(memoryBytes)
        self.kernel = kernel
        self.entry = entry
        virtualBase = base
        initialP2M = p2m
        low = DomainBuilder.lowStart
        high = (kernel.end + 4095) & ~4095
    }

    /// Builds the domain.
    ///
    /// - Throws: `MachineError` when something does not fit the memory.
    mutating func build(initramfs: [UInt8], commandLine: String, sharedInfo: GuestAddress, slots: [(index: Int, entry: UInt64)])
        throws(MachineError) -> Domain
    {
        guard commandLine.utf8.count <= DomainBuilder.commandLineBytesMax else {
            throw .configuration(
                "the kernel command line has \(commandLine.utf8.count) bytes, at most \(DomainBuilder.commandLineBytesMax) fit")
        }
        try kernel.load(into: memory)
        let initrd = try place(UInt64(initramfs.count))
        try store { () throws(GuestMemoryError) in try memory.write(GuestAddress(initrd), initramfs) }
        let p2m = try buildP2M()
        let startInfo = try place(4096)
        let console = try place(4096)
        let stack = try place(DomainBuilder.stackBytes)
        let tables = try buildPageTables(p2mL3: p2m.l3, slots: slots)
        try writeStartInfo(
            at: startInfo, sharedInfo: sharedInfo, console: console, initrd: (initrd, UInt64(initramfs.count)), p2m: (p2m.first, p2m.pages),
            tables: (tables.top, tables.pages), commandLine: commandLine)
        return Domain(
            entry: entry, startInfo: virtualBase + startInfo, stack: virtualBase + stack + DomainBuilder.stackBytes - 64,
            pageTable: tables.top,
            consoleRing: GuestAddress(console))
    }

    /// Takes whole pages, below the kernel where they fit, else after it.
    private mutating func place(_ bytes: UInt64, afterKernel: Bool = false) throws(MachineError) -> UInt64 {
        let size = max(4096, (bytes + 4095) & ~4095)
        if !afterKernel, low + size <= kernel.start {
            defer { low += size }
            return low
        }
        guard high + size <= memoryBytes else {
            throw .configuration("\(memoryBytes >> 20) MiB of memory are too small for the kernel and \(bytes >> 10) KiB more")
        }
        defer { high += size }
        return high
    }

    private func store(_ body: () throws(GuestMemoryError) -> Void) throws(MachineError) {
        do throws(GuestMemoryError) { try body() } catch { throw .configuration("\(error)") }
    }

    private func set(_ table: UInt64, _ index: Int, _ entry: UInt64) throws(MachineError) {
        try store { () throws(GuestMemoryError) in try memory.store(entry, at: GuestAddress(table + UInt64(index) * 8)) }
    }

    /// The physical-to-machine table (the identity) and the page tables that show it at the address the kernel asks for.
    private mutating func buildP2M() throws(MachineError) -> (first: UInt64, pages: UInt64, l3: UInt64) {
        let frames = memoryBytes / 4096
        let tablePages = (frames * 8 + 4095) / 4096
        let leaves = (tablePages + 511) / 512
        // After the kernel, as Xen does: Linux unmaps what lies between its own end and this table.
        let first = try place((tablePages + leaves + 2) * 4096, afterKernel: true)
        let l3 = first + tablePages * 4096
        let l2 = l3 + 4096
        let l1 = l2 + 4096
        var identity = [UInt64](repeating: 0, count: 512)
        for page in 0..<tablePages {
            for index in 0..<512 { identity[index] = min(page * 512 + UInt64(index), frames - 1) }
            let target = GuestAddress(first + page * 4096)
            let bytes = identity.withUnsafeBytes { Array($0) }
            try store { () throws(GuestMemoryError) in try memory.write(target, bytes) }
            try set(l1, Int(page), (first + page * 4096) | DomainBuilder.tableFlags | DomainBuilder.noExecute)
        }
        try set(l3, Int(initialP2M >> 30 & 511), l2 | DomainBuilder.tableFlags)
        for leaf in 0..<leaves { try set(l2, Int(initialP2M >> 21 & 511) + Int(leaf), (l1 + leaf * 4096) | DomainBuilder.tableFlags) }
        return (first, tablePages + leaves + 2, l3)
    }

    /// Maps all that was placed, and some slack, at the kernel's virtual base; executable only where the kernel is.
    private mutating func buildPageTables(p2mL3: UInt64, slots: [(index: Int, entry: UInt64)]) throws(MachineError) -> (
        top: UInt64, pages: UInt64
    ) {
        let mappedEnd = (max(high, kernel.end) + DomainBuilder.slackBytes + 0x3f_ffff) & ~0x3f_ffff
        let leaves = mappedEnd >> 21
        let top = try place((3 + leaves) * 4096)
        let l3 = top + 4096
        let l2 = l3 + 4096
        let l1 = l2 + 4096
        try set(top, 511, l3 | DomainBuilder.tableFlags)
        try set(top, Int(initialP2M >> 39 & 511), p2mL3 | DomainBuilder.tableFlags)
        for slot in slots { try set(top, slot.index, slot.entry) }
        try set(l3, 510, l2 | DomainBuilder.tableFlags)
        for leaf in 0..<leaves {
            try set(l2, Int(leaf), (l1 + leaf * 4096) | DomainBuilder.tableFlags)
            for index in 0..<512 {
                let address = leaf << 21 | UInt64(index) << 12
                guard address < memoryBytes else { break }
                let isKernel = address >= kernel.start && address < kernel.end
                try set(l1 + leaf * 4096, index, address | DomainBuilder.tableFlags | (isKernel ? 0 : DomainBuilder.noExecute))
            }
        }
        return (top, 3 + leaves)
    }

    private func writeStartInfo(
        at address: UInt64, sharedInfo: GuestAddress, console: UInt64, initrd: (start: UInt64, count: UInt64),
        p2m: (start: UInt64, pages: UInt64),
        tables: (top: UInt64, pages: UInt64), commandLine: String
    ) throws(MachineError) {
        let moduleStartIsFrame: UInt64 = 8  // SIF_MOD_START_PFN
        var page = [UInt8](repeating: 0, count: 4096)
        func put(_ value: UInt64, at offset: Int) {
            for byte in 0..<8 { page[offset + byte] = UInt8(truncatingIfNeeded: value >> UInt64(8 * byte)) }
        }
        page.replaceSubrange(0..<14, with: Array("xen-3.0-x86_64".utf8))
        put(memoryBytes / 4096, at: 32)
        put(sharedInfo.rawValue, at: 40)
        put(moduleStartIsFrame, at: 48)
        put(console >> 12, at: 72)
        put(ShimLayout.consolePort, at: 80)
        put(virtualBase + tables.top, at: 88)
        put(tables.pages, at: 96)
        put(initialP2M, at: 104)
        put(initrd.start >> 12, at: 112)
        put(initrd.count, at: 120)
        page.replaceSubrange(128..<128 + commandLine.utf8.count, with: Array(commandLine.utf8))
        put(p2m.start >> 12, at: 1152)
        put(p2m.pages, at: 1160)
        try store { () throws(GuestMemoryError) in try memory.write(GuestAddress(address), page) }
    }
}
