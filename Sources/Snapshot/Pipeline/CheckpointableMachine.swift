public import AuroraVMM

/// What a pipeline needs of a machine; a simulation has one without a processor.
public protocol CheckpointableMachine: AnyObject, Sendable {
    /// The guest's memory.
    var memory: GuestMemory { get }
    /// Whether what vCPUs write is recorded.
    var tracksWrites: Bool { get }
    /// How it ended; nil while it lives.
    var end: MachineEnd? { get }
    /// Whether nothing changes the guest now.
    var isPaused: Bool { get }
    /// When the guest went on after the last rest: nanoseconds of the host's monotonic clock.
    var runningSince: Int64 { get }

    /// Begins or ends the recording of what vCPUs write.
    ///
    /// - Throws: `MachineError`.
    func setTracksWrites(_ isOn: Bool) throws(MachineError)

    /// Makes known to `memory.drainDirtyPages` what vCPUs wrote since the last call; a write after the call is recorded anew.
    ///
    /// - Returns: pages that were reported, for statistics.
    /// - Throws: `MachineError`.
    @discardableResult
    func harvestDirtyPages() throws(MachineError) -> Int

    /// Harvests early where the record of writes fills up.
    ///
    /// - Throws: `MachineError`.
    func relieveDirtyRing() throws(MachineError)

    /// Brings the guest to rest for a stop, whoever else keeps it at rest or lets it go.
    ///
    /// - Throws: `MachineError` for a machine that has ended, or does not come to rest.
    func restForStop() throws(MachineError) -> any CheckpointRest & ~Copyable

    /// Lets the guest run whenever nobody keeps it at rest; idempotent.
    func start()
}

/// A machine at rest: its guest changes nothing as long as this value lives, and goes on then unless somebody else keeps it at rest.
public protocol CheckpointRest: ~Copyable, Sendable {
    /// Takes everything but the contents of memory and disks.
    ///
    /// - Throws: `MachineError`.
    borrowing func save() throws(MachineError) -> MachineState
}

extension RestingMachine: CheckpointRest {}

extension Machine: CheckpointableMachine {
    /// See `rest()`.
    ///
    /// - Throws: `MachineError`.
    public func restForStop() throws(MachineError) -> any CheckpointRest & ~Copyable { try rest() }
}

/// Keeps a guest at rest for somebody who says so, and takes it back later.
final class LastingRest: Sendable {
    private let rest: any CheckpointRest & ~Copyable

    /// - Throws: `MachineError` for a machine that has ended, or does not come to rest.
    init(_ machine: any CheckpointableMachine) throws(MachineError) { rest = try machine.restForStop() }
}
