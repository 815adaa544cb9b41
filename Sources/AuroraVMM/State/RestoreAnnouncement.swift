internal import CLinux
import Linux

/// The page by which a guest learns that it was restored: new random bytes, and for how long it was not there.
///
/// It is `struct aurora_generation` of the module `aurora.c`. An interrupt that is pending when the vCPU enters the guest says that it
/// was written.
enum RestoreAnnouncement {
    /// Random bytes of the host, new at each restore.
    static let seedBytes = 64
    /// Nanoseconds of absence (u64); the guest clears them when it has taken notice.
    static let absenceOffset = seedBytes

    /// - Parameter savedAt: the host's wall clock when the guest was saved; nil: nobody noted it.
    /// - Throws: `MachineError.state` when the page cannot be had, `MachineError.system` without random bytes.
    static func write(to page: GuestAddress, in memory: GuestMemory, savedAt: Int64?) throws(MachineError) {
        var seed = [UInt8](repeating: 0, count: seedBytes)
        try machineCall("read", "random bytes of the host") { seed.withUnsafeMutableBytes { clinux_getrandom($0.baseAddress, $0.count) } }
        do throws(GuestMemoryError) {
            try memory.write(page, seed)
            guard let place = page.advanced(by: UInt64(absenceOffset)) else { return }
            let before: UInt64 = try memory.load(place)
            let (sum, wraps) = before.addingReportingOverflow(passed(since: savedAt))
            try memory.store(wraps ? .max : sum, at: place)
        } catch { throw .state("\(error)") }
    }

    /// The time since a wall clock; one that was set back counts as none.
    private static func passed(since savedAt: Int64?) -> UInt64 {
        let (passed, overflow) = clinux_clock_ns(CLOCK_REALTIME).subtractingReportingOverflow(savedAt ?? .max)
        return overflow || passed < 0 ? 0 : UInt64(passed)
    }
}
