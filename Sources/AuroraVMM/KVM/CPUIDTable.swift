internal import CLinux

/// A `kvm_cpuid2`: the CPUID leaves of a vCPU, in the kernel's layout (a header of 8 bytes, 40 bytes an entry).
struct CPUIDTable: Sendable, Hashable {
    static let entriesMax = 256
    private static let headerBytes = 8
    private static let entryBytes = 40
    private var storage: [UInt32]

    /// An empty table with room for `capacity` entries.
    init(capacity: Int) {
        storage = [UInt32](repeating: 0, count: (CPUIDTable.headerBytes + capacity * CPUIDTable.entryBytes) / 4)
        storage[0] = UInt32(capacity)
    }

    /// A table from its bytes; nil when they are none: too many entries, or not as many as it says.
    init?(_ bytes: [UInt8]) {
        let entries = (bytes.count - CPUIDTable.headerBytes) / CPUIDTable.entryBytes
        guard bytes.count >= CPUIDTable.headerBytes, entries <= CPUIDTable.entriesMax,
            bytes.count == CPUIDTable.headerBytes + entries * CPUIDTable.entryBytes
        else { return nil }
        storage = bytes.withUnsafeBytes { buffer in
            stride(from: 0, to: buffer.count, by: 4).map { UInt32(littleEndian: buffer.loadUnaligned(fromByteOffset: $0, as: UInt32.self)) }
        }
        guard storage[0] == UInt32(entries) else { return nil }
    }

    /// The header and the entries in use.
    var bytes: [UInt8] { storage.withUnsafeBytes { Array($0.prefix(CPUIDTable.headerBytes + count * CPUIDTable.entryBytes)) } }

    /// The kernel's view of the table.
    mutating func withUnsafeBytes<Result>(_ body: (UnsafeMutableRawBufferPointer) -> Result) -> Result {
        storage.withUnsafeMutableBytes(body)
    }

    /// Entries in use.
    var count: Int { min(Int(storage[0]), (storage.count * 4 - CPUIDTable.headerBytes) / CPUIDTable.entryBytes) }

    /// Registers of a leaf, in the order eax, ebx, ecx, edx; nil when the table lacks it.
    subscript(leaf: UInt32, subleaf: UInt32) -> [UInt32]? {
        index(leaf, subleaf).map { Array(storage[$0 + 3..<$0 + 7]) }
    }

    /// Sets and clears bits of one register (0 eax … 3 edx) of a leaf, where the leaf exists.
    mutating func update(_ leaf: UInt32, _ subleaf: UInt32 = 0, register: Int, set: UInt32 = 0, clear: UInt32 = 0) {
        guard let index = index(leaf, subleaf) else { return }
        storage[index + 3 + register] = storage[index + 3 + register] & ~clear | set
    }

    /// Word index of an entry: function, index, flags, eax, ebx, ecx, edx, padding.
    private func index(_ leaf: UInt32, _ subleaf: UInt32) -> Int? {
        for entry in 0..<count {
            let word = (CPUIDTable.headerBytes + entry * CPUIDTable.entryBytes) / 4
            let subleafMatters = storage[word + 2] & 1 != 0
            if storage[word] == leaf, !subleafMatters || storage[word + 1] == subleaf { return word }
        }
        return nil
    }
}
