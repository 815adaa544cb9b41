public import AuroraVMM
import Synchronization

/// A closed epoch: all that a backend needs to keep a checkpoint, as the difference to an epoch before.
public final class Epoch: Sendable {
    /// Its number.
    public let number: EpochNumber
    /// Given by whoever asked for this checkpoint; nil: made by the clock.
    public let name: String?
    /// Nanoseconds since 1970 at the stop.
    public let wallClock: Int64
    /// Nanoseconds of the host's monotonic clock at the stop.
    public let monotonicClock: Int64
    /// Everything of the machine but memory.
    public let state: MachineState
    /// What changed and was not staged, in order; later than anything staged.
    public let pages: PageSet
    /// What it cost.
    public let statistics: EpochStatistics

    private let encoding = Mutex<[UInt8]?>(nil)

    init(
        number: EpochNumber, name: String?, wallClock: Int64, monotonicClock: Int64, state: MachineState,
        pages: PageSet, statistics: EpochStatistics
    ) {
        self.number = number
        self.name = name
        self.wallClock = wallClock
        self.monotonicClock = monotonicClock
        self.state = state
        self.pages = pages
        self.statistics = statistics
    }

    /// The state as `MachineState.encoded()`; encoded once, by the first who asks, behind the guest's back.
    ///
    /// - Throws: `MachineError.state`.
    public func encodedState() throws(MachineError) -> [UInt8] {
        try encoding.withLock { (bytes: inout [UInt8]?) throws(MachineError) in
            if let bytes { return bytes }
            let encoded = try state.encoded()
            bytes = encoded
            return encoded
        }
    }
}
