/// What a lazy restore cost, part by part, in nanoseconds (the paper's Table 4).
public struct RestoreTimes: Sendable, Hashable {
    /// Address space for the guest's memory, and the watch on it.
    public var memory: Int64 = 0
    /// The virtual machine, its slots, devices and vCPU.
    public var machine: Int64 = 0
    /// The saved state of processor, interrupts, clock and devices.
    public var state: Int64 = 0
    /// The threads that run it.
    public var threads: Int64 = 0

    /// All parts.
    public var total: Int64 { memory + machine + state + threads }
}
