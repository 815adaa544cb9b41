/// Which pages of its memory a machine writes.
extension Machine {
    /// Whether the writes of vCPUs are recorded.
    public var tracksWrites: Bool { tracker.isTracking }

    /// Begins or ends the recording of what vCPUs write; the guest may run meanwhile.
    ///
    /// Takes some milliseconds. What the VMM writes is always recorded.
    ///
    /// - Throws: `MachineError.system`.
    public func setTracksWrites(_ isOn: Bool) throws(MachineError) { try tracker.setTracking(isOn) }

    /// Makes known to `memory.drainDirtyPages` what vCPUs wrote since the last call; a write after the call is recorded anew.
    ///
    /// To get a page's contents: harvest, drain, then copy. In this order no write is missed, whether the guest runs or not.
    ///
    /// - Returns: pages that KVM reported, for statistics.
    /// - Throws: `MachineError.system`.
    @discardableResult
    public func harvestDirtyPages() throws(MachineError) -> Int { try tracker.harvest() }

    /// Harvests early if KVM's ring is filling up: to be called every few ten milliseconds while writes are recorded.
    ///
    /// Costs next to nothing otherwise. A ring that runs over costs a checkpoint of all pages.
    ///
    /// - Throws: `MachineError.system`.
    public func relieveDirtyRing() throws(MachineError) { try tracker.relieve() }
}
