internal import CLinux
import Linux
import Synchronization

/// The ring in which KVM names the pages that one vCPU wrote (`KVM_CAP_DIRTY_LOG_RING_ACQ_REL`).
///
/// KVM appends an entry when the vCPU writes to a protected page, and lets further writes pass. The harvester takes entries
/// in order and marks them; `KVM_RESET_DIRTY_RINGS` protects the pages of marked entries again and frees the entries.
/// Source: Documentation/virt/kvm/api.rst, 8.29.
///
/// KVM stops a vCPU when 64 entries are left, but with shadow page tables one exit can append hundreds: it synchronizes a whole
/// page table. Then it overwrites entries nobody has read. Such a ring is recognized by being wholly full, the caller
/// has to take all pages for written, and the place where KVM goes on is found by its next entry.
struct DirtyRing: ~Copyable {
    /// KVM's limit.
    static let entriesMax = 65_536
    /// What a machine uses: a MiB.
    static let entriesDefault = 65_536
    private static let entryBytes = MemoryLayout<kvm_dirty_gfn>.size
    private static let dirty: UInt32 = 1
    private static let reset: UInt32 = 2

    private let mapping: Mapping
    private let mask: UInt32
    private var next: UInt32 = 0
    /// Entries that were taken and not yet reset.
    private var taken = 0
    /// Whether KVM writes at an unknown place ahead of `next`.
    private(set) var isLost = false

    /// Maps the ring of a vCPU of a machine whose rings have this many entries.
    ///
    /// - Throws: `MachineError.system`.
    init(_ cpu: VirtualCPU, entries: Int) throws(MachineError) {
        precondition(entries > 0 && entries & (entries - 1) == 0 && entries <= DirtyRing.entriesMax)
        mask = UInt32(entries - 1)
        do throws(SystemError) {
            mapping = try .file(
                cpu.descriptor, count: entries * DirtyRing.entryBytes, offset: Int(CKVM_DIRTY_RING_OFFSET), shared: true,
                what: "the dirty ring of a vCPU")
        } catch { throw .system(error) }
    }

    private func entry(_ index: UInt32) -> UnsafeMutablePointer<kvm_dirty_gfn> {
        mapping.base.assumingMemoryBound(to: kvm_dirty_gfn.self) + Int(index & mask)
    }

    /// An entry's flags: KVM's last write to it, and ours.
    ///
    /// Acquire before reading, release after.
    private func flags(_ index: UInt32) -> UnsafeMutablePointer<Atomic<UInt32>> {
        UnsafeMutableRawPointer(entry(index)).assumingMemoryBound(to: Atomic<UInt32>.self)
    }

    private func isDirty(_ index: UInt32) -> Bool {
        flags(index).pointee.load(ordering: .acquiring) & (DirtyRing.dirty | DirtyRing.reset) == DirtyRing.dirty
    }

    /// Whether a quarter of the ring or more is occupied.
    var isFilling: Bool { isLost || isDirty(next &+ (mask >> 2)) }

    /// Takes all entries; calls `body` with slot and page of each.
    ///
    /// - Returns: how many there were; they stay occupied until KVM resets them.
    @inline(__always)
    mutating func harvest(_ body: (_ slot: Int, _ page: UInt64) -> Void) -> Int {
        if isLost { find() }
        var count = 0
        while isDirty(next) {
            body(Int(entry(next).pointee.slot), entry(next).pointee.offset)
            flags(next).pointee.store(DirtyRing.reset, ordering: .releasing)
            next &+= 1
            count += 1
        }
        taken += count
        return count
    }

    /// What a reset came to.
    enum Reset {
        case complete
        /// Some of the taken entries wait for another reset.
        case partial
        /// Entries were overwritten before they were taken: then pages were missed, and are not protected.
        case overrun
    }

    /// Notes how many entries KVM has reset since the last call.
    mutating func didReset(_ count: Int) -> Reset {
        // KVM goes on at the oldest one: one that still says so has not been overwritten.
        if count < taken, taken <= Int(mask), isTaken(next &- UInt32(taken - count)) {
            taken -= count
            return .partial
        }
        let wasOverrun = taken > Int(mask) || count < taken
        taken = 0
        if wasOverrun { isLost = true }
        return wasOverrun ? .overrun : .complete
    }

    private func isTaken(_ index: UInt32) -> Bool { flags(index).pointee.load(ordering: .acquiring) & DirtyRing.reset != 0 }

    /// Gives up the entries that KVM overwrote and will never mark again, up to the first one it has marked since.
    private mutating func find() {
        guard let distance = (0...mask).first(where: { isDirty(next &+ $0) }) else { return }
        for _ in 0..<distance { giveUp() }
        isLost = false
    }

    /// Hands an entry without a page back to KVM, which counts it as occupied.
    mutating func giveUp() {
        entry(next).pointee.slot = UInt32.max
        flags(next).pointee.store(DirtyRing.reset, ordering: .releasing)
        next &+= 1
        taken += 1
    }
}
