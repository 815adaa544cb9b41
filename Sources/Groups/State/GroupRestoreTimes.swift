/// What it took until the first instruction of a group that goes on from a checkpoint, part by part (the paper's Table 4), in microseconds.
public struct GroupRestoreTimes: Codable, Sendable, Hashable {
    /// Finding the checkpoint in the store, reading and decoding its state.
    public var store: Double
    /// Its disks.
    public var disks = 0.0
    /// Address space for the guest's memory, and the watch on it.
    public var memory = 0.0
    /// The virtual machine, its slots, devices and vCPU.
    public var machine = 0.0
    /// The saved state of processor, interrupts, clock and devices.
    public var state = 0.0
    /// The threads that run it.
    public var threads = 0.0
    /// What records and checkpoints it from now on; its history in the store begins when it runs.
    public var history = 0.0
    /// All of it, from the opening of the store until the processor may run.
    public var total = 0.0
    /// When it might run: seconds of the host's monotonic clock.
    public var resumedAt = 0.0

    /// Describes a restore that has come to its state.
    public init(store: Double) { self.store = store }
}
