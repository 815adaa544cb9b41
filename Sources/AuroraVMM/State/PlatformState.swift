/// What a checkpoint holds of the guest mode's own parts.
public enum PlatformState: Codable, Equatable, Sendable {
    /// A guest served by the PV shim.
    case pv(PVState)
    /// A guest in ring 0 of hardware virtualization.
    case hvm(HVMState)
}

/// What the VMM knows of a pv guest beyond its memory, which holds the shim and all the shim knows.
public struct PVState: Codable, Equatable, Sendable {
    /// Nanoseconds the guest has run: its clock goes on from here.
    public var guestTime: UInt64
    /// The wall clock of the host when this was taken, in nanoseconds; nil: nobody noted it.
    public var savedAt: Int64?
    /// Guest-physical address of the console's ring.
    public var consoleRing: GuestAddress
    /// Where the shim that runs in this guest keeps `struct cpu`, in bytes from the start of its slot.
    public var shimCPU: Int
    /// Where it keeps `struct params`.
    public var shimParameters: Int
    /// The version of the layout of both.
    public var shimVersion: UInt64
}

/// What KVM keeps of an hvm guest beyond its vCPU and interrupt controllers.
public struct HVMState: Codable, Equatable, Sendable {
    /// kvmclock in nanoseconds (`KVM_GET_CLOCK`).
    public var clock: UInt64
    /// The wall clock of the host when this was taken, in nanoseconds; nil: nobody noted it.
    public var savedAt: Int64?
    /// The early console's line control register.
    public var serialLineControl: UInt8
}
