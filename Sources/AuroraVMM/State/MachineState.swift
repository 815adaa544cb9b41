/// A contiguous piece of guest-physical memory.
public struct MemoryExtent: Codable, Hashable, Sendable {
    /// Guest-physical address of the first byte.
    public var start: GuestAddress
    /// Length in bytes.
    public var count: Int

    /// A piece of memory.
    public init(start: GuestAddress, count: Int) {
        self.start = start
        self.count = count
    }
}

/// Everything of a paused machine but the contents of its memory and disks, as plain values.
///
/// Taken by `RestingMachine.save()` in the stop window without encoding anything; `encoded()` may follow at leisure.
public struct MachineState: Codable, Equatable, Sendable {
    /// The version written by this code.
    public static let currentVersion = 1

    /// The layout of this value.
    public var version = MachineState.currentVersion
    /// How the guest runs.
    public var mode: GuestMode
    /// The guest's memory, by address.
    ///
    /// The contents of each extent belong to the checkpoint.
    public var memory: [MemoryExtent]
    /// What the guest may use of the processor.
    public var features: CPUFeatures
    /// The vCPU.
    public var vcpu: VCPUState
    /// PICs and IOAPIC.
    public var interrupts: InterruptState
    /// What belongs to the guest mode.
    public var platform: PlatformState
    /// The devices, in the order of their windows.
    public var devices: [VirtioDeviceState]
}
