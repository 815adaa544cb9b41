public import AuroraVMM

/// An epoch without its pages.
public struct EpochRecord: Hashable, Sendable {
    /// Its number.
    public let number: EpochNumber
    /// Its name; nil: made by the clock.
    public let name: String?
    /// Nanoseconds since 1970 at the stop.
    public let wallClock: Int64
    /// Everything of the machine but memory.
    public let state: MachineState
    /// What it cost.
    public let statistics: EpochStatistics

    init(_ epoch: Epoch) {
        number = epoch.number
        name = epoch.name
        wallClock = epoch.wallClock
        state = epoch.state
        statistics = epoch.statistics
    }

    /// Two records of one epoch are equal.
    public static func == (left: EpochRecord, right: EpochRecord) -> Bool {
        left.number == right.number && left.wallClock == right.wallClock
    }

    /// Hashes what `==` compares.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(number)
        hasher.combine(wallClock)
    }
}
