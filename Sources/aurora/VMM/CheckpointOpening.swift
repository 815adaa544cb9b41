import AuroraVMM
import Groups
import Linux
import Snapshot
import Store
import Synchronization

/// Reads a checkpoint on a thread of its own, while the process that will go on from it prepares everything else: its state, and
/// ahead of their use the pages that the guest touched first after earlier restores.
final class CheckpointOpening: Sendable {
    /// What a machine goes on from.
    struct Opened: Sendable {
        let reader: CheckpointReader
        let context: GroupContext
        let state: MachineState
        let memory: RestoredMemory
        let workingSet: WorkingSetKeeper
        let watch: RestoreWatch
    }

    private let address: CheckpointAddress
    private let streamName: String
    private let storePath: String
    private let thread = Mutex<Linux.Thread?>(nil)
    private let opened = Mutex<Result<Opened, any Error>?>(nil)

    /// Names a checkpoint, and the history of the group that will go on from it.
    init(_ address: CheckpointAddress, for streamName: String, storePath: String) {
        self.address = address
        self.streamName = streamName
        self.storePath = storePath
    }

    // Its thread refers to it: that one has ended, or is the caller.
    deinit { thread.withLock { $0 }?.join() }

    /// Begins to read.
    func begin() {
        // Without a thread it is read by whoever asks for it.
        let thread = try? Linux.Thread(name: "checkpoint") { [self] in _ = try? value() }
        self.thread.withLock { $0 = thread }
    }

    /// What was read, once it is there.
    ///
    /// - Throws: `StoreError`, `GroupError` or `MachineError` when the checkpoint cannot be gone on from.
    func value() throws -> Opened {
        try opened.withLock { opened in
            if let opened { return try opened.get() }
            let result = Result { try open() }
            opened = result
            return try result.get()
        }
    }

    private func open() throws -> Opened {
        var watch = RestoreWatch()
        let access = try StoreAccess.openOnce(storePath)
        let reader = try reader(access)
        let envelope = try access.envelope(reader)
        let state = try MachineState(encoded: Array(envelope.machine))
        watch.foundState()
        let workingSet = WorkingSetKeeper(of: [address.stream, streamName], in: CommandContext.data)
        let memory = try RestoredMemory(of: state, pages: CheckpointPages(reader, map: 0), policy: workingSet.policy)
        return Opened(reader: reader, context: envelope.context, state: state, memory: memory, workingSet: workingSet, watch: watch)
    }

    /// The checkpoint as the new group's own history has it, where that begins with it: there it cannot be dropped by another.
    private func reader(_ access: StoreAccess) throws -> CheckpointReader {
        if address.stream != streamName {
            do throws(StoreError) { return try access.store.checkpoint(stream: streamName, .number(address.number)) } catch {
                switch error {
                case .noStream, .noCheckpoint: break
                default: throw error
                }
            }
        }
        return try access.reader(address)
    }
}
