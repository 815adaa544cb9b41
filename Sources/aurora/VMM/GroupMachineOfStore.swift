import AuroraVMM
import Groups
import Linux
import Snapshot
import Store
import Synchronization

/// A machine as a group's runtime sees it, with its checkpoints.
///
/// As long as there is a pipeline the machine is paused and resumed through it, because every checkpoint pauses it, too.
final class GroupMachineOfStore: GroupMachine {
    /// What it needs of its group.
    struct Environment: Sendable {
        let configuration: GroupConfiguration
        /// The stream of the group's history.
        let streamName: String
        let storePath: String
        /// The host's side of the group as it is now.
        let context: @Sendable () -> GroupContext?
        let warn: @Sendable (String) -> Void
        let tell: @Sendable (GroupEvent.Kind, String) -> Void
    }

    let machine: Machine
    let disks: MachineDisks
    let environment: Environment
    /// The checkpoint it went on from.
    let origin: CheckpointReader?
    let contexts: ContextKeeper
    /// What the guest touches first; nil for one that booted.
    private let workingSet: WorkingSetKeeper?
    let state = Mutex(State())
    /// While somebody wants the guest to stand still.
    private let standstill = Mutex<RestingMachine?>(nil)
    /// Attaching, detaching, rolling back and naming: one at a time.
    private let order = Turn()

    struct State {
        var pipeline: EpochPipeline?
        var history: StoreHistory?
        var memory: MemoryBackend?
        var period: PersistencePeriod
        /// Names of checkpoints that are being made, or were begun and not waited for.
        var namesAsked: Set<String> = []
        /// Whether the program runs, so that there is something to go back to.
        var hasBegun = false
        /// Whether the backends of the configuration were attached.
        var hasAttached = false
        /// Whether somebody wants the guest to stand still, whichever pipeline it has.
        var isPaused = false
        /// Whether the last checkpoint is made, after which the clock makes none.
        var isClosed = false
        /// The checkpoint a rollback has put it on, which its disks read from.
        var standsOn: UInt64?
        /// Why the machine was ended from here.
        var lossReason: String?
        /// Looks after the checkpoints, from the first pipeline on.
        var healthWatch: HealthWatch?
        /// What it took to go on from `origin`.
        var watch: RestoreWatch?

        /// Whether the clock makes checkpoints.
        var isTicking: Bool { period.microseconds != nil && hasBegun && !isPaused && !isClosed }

        init() { period = .standard }
    }

    init(
        _ machine: Machine, _ disks: MachineDisks, _ environment: Environment, origin: CheckpointReader?, _ watch: RestoreWatch? = nil,
        _ workingSet: WorkingSetKeeper? = nil
    ) {
        self.machine = machine
        self.workingSet = workingSet
        self.disks = disks
        self.environment = environment
        self.origin = origin
        contexts = ContextKeeper(environment.context, diskBytes: disks.byteCounts)
        state.withLock {
            $0.period = environment.configuration.persistence?.period ?? .standard
            $0.watch = watch
        }
    }

    var modeName: String { machine.mode.rawValue }
    var consoleTail: String { machine.console.tail }
    var persistence: (any GroupPersistence)? { self }
    var restoreTimes: GroupRestoreTimes? { state.withLock { $0.watch?.times } }

    func start() throws {
        guard let origin else { return machine.start() }
        // Writes are recorded from the first instruction on, so that the history can begin while the guest runs: that waits for the disk.
        let pipeline = try makePipeline(after: 0)
        pipeline.resumeGuest()
        state.withLock { $0.watch?.resumed() }
        workingSet?.begin(machine)
        try attach(origin, to: pipeline)
    }

    func pause() {
        let pipeline = state.withLock { state in
            state.isPaused = true
            return state.pipeline
        }
        pipeline?.setCheckpointsPaused(true)
        // One that does not come to rest has failed, which its end tells.
        standstill.withLock { if $0 == nil { $0 = try? machine.rest() } }
    }

    func resume() {
        let (pipeline, isTicking) = state.withLock { state in
            state.isPaused = false
            return (state.pipeline, state.isTicking)
        }
        standstill.withLock { $0 = nil }
        // A backend's failure may have stopped it.
        pipeline?.resumeGuest()
        pipeline?.setCheckpointsPaused(!isTicking)
    }

    func stop() {
        let (pipeline, history) = state.withLock { state in
            defer { (state.pipeline, state.history) = (nil, nil) }
            return (state.pipeline, state.history)
        }
        state.withLock { $0.healthWatch.take() }?.end()
        workingSet?.leave(machine)
        machine.stop(seconds: GroupMachineOfStore.machineSeconds)
        history?.giveUpWaiting()
        var left = pipeline?.stop(withinSeconds: GroupMachineOfStore.backendsSeconds) ?? []
        if let history, !history.finish(withinSeconds: GroupMachineOfStore.historySeconds) { left.append("the writer of its history") }
        if !left.isEmpty { environment.warn("Left behind, as it did not come back: \(left.joined(separator: "; "))") }
    }

    /// What ends with the group may take so long; what is still on its way to the backends then has never been called durable.
    private static let machineSeconds = 5
    private static let backendsSeconds = 8.0
    static let historySeconds = 4.0

    /// How long somebody waits for another one who attaches, detaches or rolls back, in nanoseconds.
    private static let orderNanoseconds: Int64 = 60_000_000_000

    /// Does what changes backends or history while nobody else does.
    ///
    /// - Throws: `GroupError` that names what has been going on for too long, or what `body` throws.
    func inOrder<Result>(
        _ what: StaticString, withinSeconds seconds: Double? = nil, _ body: () throws -> Result
    ) throws -> Result {
        let limit = seconds.map { Int64($0 * 1e9) } ?? GroupMachineOfStore.orderNanoseconds
        let refusal = { (denial: Turn.Denial) -> any Error in
            GroupError(
                .timeout, "The group is busy: \(denial). It may be waiting for a disk that does not answer",
                remedy: "See how it goes with: aurora ps")
        }
        return try order.take(what, withinNanoseconds: limit, orThrow: refusal, body)
    }
}
