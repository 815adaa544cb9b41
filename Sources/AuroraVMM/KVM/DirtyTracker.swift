internal import CLinux
import Linux
import Synchronization

/// Learns from KVM which pages vCPUs wrote, and hands them to the bitmaps of `GuestMemory`, where the VMM's own writes are.
///
/// Uses dirty rings where KVM has them, else its bitmaps, which cost time by the size of memory.
final class DirtyTracker: Sendable {
    private struct State: ~Copyable {
        var ring: DirtyRing?
        var isTracking = false
        var overflows = 0
    }

    /// Entries of a ring; nil: bitmaps.
    private let ringEntries: Int?
    private let machine: VirtualMachine
    private let memory: GuestMemory
    private let state = Mutex(State())

    /// Chooses the way; to be called before the first vCPU is made.
    ///
    /// - Parameters:
    ///   - isTracking: whether the memory slots have been made with `KVM_MEM_LOG_DIRTY_PAGES`.
    ///   - entries: of the ring, if KVM offers one; zero: bitmaps in any case.
    /// - Throws: `MachineError.system`.
    init(_ machine: VirtualMachine, memory: GuestMemory, isTracking: Bool, ringEntries entries: Int) throws(MachineError) {
        self.machine = machine
        self.memory = memory
        let bytesMax = machine.system.capability(KVM_CAP_DIRTY_LOG_RING_ACQ_REL)
        let entries = min(entries, bytesMax / MemoryLayout<kvm_dirty_gfn>.size)
        if entries > 0 {
            try machine.enable(
                capability: UInt32(KVM_CAP_DIRTY_LOG_RING_ACQ_REL), argument: UInt64(entries * MemoryLayout<kvm_dirty_gfn>.size))
            ringEntries = entries
        } else {
            ringEntries = nil
        }
        state.withLock { $0.isTracking = isTracking }
    }

    /// Begins to read the ring of the machine's vCPU.
    ///
    /// - Throws: `MachineError.system`.
    func attach(_ cpu: VirtualCPU) throws(MachineError) {
        guard let ringEntries else { return }
        try state.withLock { (state: inout State) throws(MachineError) in state.ring = try DirtyRing(cpu, entries: ringEntries) }
    }

    /// Flags of a memory slot whose pages are tracked.
    static let slotFlags = UInt32(KVM_MEM_LOG_DIRTY_PAGES)

    /// Whether writes of vCPUs are recorded.
    var isTracking: Bool { state.withLock { $0.isTracking } }

    /// Whether KVM's rings are used.
    var usesRing: Bool { ringEntries != nil }

    /// How often the ring overflowed: each time all pages were taken for written.
    var overflows: Int { state.withLock { $0.overflows } }

    /// Begins or ends the recording; the guest may run.
    ///
    /// Every slot costs a grace period of the kernel, some milliseconds, in which the guest runs on.
    ///
    /// - Throws: `MachineError.system`.
    func setTracking(_ isOn: Bool) throws(MachineError) {
        let hasEnded = try state.withLock { (state: inout State) throws(MachineError) in
            guard isOn != state.isTracking else { return false }
            // With the lock: a ring that runs over while the slots change is found by the next harvest, which then knows what it lost.
            try setFlags(isOn ? DirtyTracker.slotFlags : 0)
            state.isTracking = isOn
            return !isOn
        }
        if hasEnded { try harvest() }
    }

    private func setFlags(_ flags: UInt32) throws(MachineError) {
        for (slot, region) in memory.regions.enumerated() {
            try machine.setMemory(slot: UInt32(slot), at: region.start, host: region.mapping.base, count: region.count, flags: flags)
        }
    }

    /// Moves what KVM recorded into the bitmaps of guest memory, and protects the pages again.
    ///
    /// Any thread may call it: the checkpointer, or a vCPU whose ring is full. A page is in the bitmap before it is
    /// protected again, so whoever drains the bitmap afterwards and reads the page misses no write.
    ///
    /// - Parameter ringIsFull: whether KVM refuses to run the vCPU until there is room in its ring.
    /// - Returns: pages that KVM reported.
    /// - Throws: `MachineError.system`.
    @discardableResult
    func harvest(ringIsFull: Bool = false) throws(MachineError) -> Int {
        try state.withLock { (state: inout State) throws(MachineError) in
            usesRing ? try harvestRing(&state, ringIsFull) : state.isTracking ? try harvestBitmaps() : 0
        }
    }

    /// Harvests if the ring is filling up; costs next to nothing otherwise.
    ///
    /// - Throws: `MachineError.system`.
    func relieve() throws(MachineError) {
        if state.withLock({ $0.ring?.isFilling ?? false }) { try harvest() }
    }

    private func harvestRing(_ state: inout State, _ isFull: Bool) throws(MachineError) -> Int {
        let regions = memory.regions
        let count =
            state.ring?.harvest { slot, page in
                guard slot < regions.count, page < UInt64(regions[slot].count / pageBytes) else { return }
                regions[slot].dirty.mark(page: Int(page))
            } ?? 0
        if isFull, count == 0, state.ring?.isLost == true { state.ring?.giveUp() }
        guard count > 0 || isFull else { return 0 }
        let outcome = try resetRing(&state)
        if outcome == .overrun { state.overflows += 1 }
        if outcome != .complete, state.isTracking { try recover() }
        return count
    }

    private enum ResetOutcome { case complete, interrupted, overrun }

    /// Has KVM protect the pages of all taken entries again.
    ///
    /// From Linux 6.17 on `KVM_RESET_DIRTY_RINGS` stops at a pending signal and answers what it did so far: then it is asked
    /// again. But pages of entries that it has counted may be left unprotected, because it gathers neighbours and drops those it
    /// has gathered when it stops (`kvm_dirty_ring_reset` of virt/kvm/dirty_ring.c): signals are kept away, and if it stops all
    /// the same, all pages are taken for written.
    private func resetRing(_ state: inout State) throws(MachineError) -> ResetOutcome {
        let number = machine.descriptor.rawValue
        var wasInterrupted = false
        for _ in 0..<DirtyTracker.resetsMax {
            let reset = try machineCall("reset the dirty rings of", "the machine") {
                BlockedSignals.during { clinux_ioctl(number, CKVM_RESET_DIRTY_RINGS, 0) }
            }
            switch state.ring?.didReset(reset) {
            case nil, .complete: return wasInterrupted ? .interrupted : .complete
            case .overrun: return .overrun
            case .partial:
                // One that has not begun has dropped nothing.
                if reset > 0 { wasInterrupted = true }
                sched_yield()
            }
        }
        throw .guest("KVM does not reset its dirty rings")
    }

    /// Far more than signals could cause.
    private static let resetsMax = 1000

    /// After a lost entry: protects all pages again, then takes all for written.
    private func recover() throws(MachineError) {
        try setFlags(0)
        try setFlags(DirtyTracker.slotFlags)
        for region in memory.regions { region.dirty.markAll() }
    }

    /// `KVM_GET_DIRTY_LOG`: reads and protects in one call; walks all of memory.
    private func harvestBitmaps() throws(MachineError) -> Int {
        var count = 0
        for (slot, region) in memory.regions.enumerated() {
            var words = [UInt64](repeating: 0, count: (region.count / pageBytes + 63) / 64)
            let number = machine.descriptor.rawValue
            try machineCall("read the dirty pages of", "the machine") {
                words.withUnsafeMutableBytes { buffer in
                    var request = (UInt64(slot), UInt64(UInt(bitPattern: buffer.baseAddress)))  // kvm_dirty_log
                    return withUnsafeMutableBytes(of: &request) {
                        clinux_ioctl(number, CKVM_GET_DIRTY_LOG, UInt(bitPattern: $0.baseAddress))
                    }
                }
            }
            for (index, bits) in words.enumerated() where bits != 0 {
                region.dirty.mark(word: index, bits: bits)
                count += bits.nonzeroBitCount
            }
        }
        return count
    }
}
