import AgentProtocol
import CLinux
import Groups
import Linux
import Store

/// Finds a checkpoint in the store and starts a VMM process that goes on from it.
struct GroupRestorer {
    private let name: GroupName
    private let access: StoreAccess

    /// Names the group whose history it is about.
    init(_ name: GroupName, _ options: StoreOptions) throws {
        self.name = name
        access = try options.open(for: name)
    }

    /// Resumes the group itself.
    func restore(_ selector: CheckpointChoice, attach: Bool) throws {
        let (directory, outcome) = try resume(selector, attach: attach)
        try finish(outcome, directory)
    }

    /// Resumes the group itself in the background, as one of several.
    ///
    /// - Throws: also what its process says, so that the caller can name the group with it.
    func restoreAsBefore() throws {
        let (directory, outcome) = try resume(.latest, attach: false)
        if let failure = outcome.failure(lost: lost(directory)) { throw failure }
        print(directory.name)
    }

    private func resume(_ selector: CheckpointChoice, attach: Bool) throws -> (GroupDirectory, StdioClient.Outcome) {
        let groups = CommandContext.store
        if let directory = try? groups.find(name) {
            let lock = try takeLock(of: directory)
            return (directory, try launch(directory, lock, try find(selector), attach))
        }
        // Only the history was left: what the group was is in its checkpoints.
        let reference = try find(selector)
        var configuration = try access.context(reference).configuration
        configuration.storePath = foreignStorePath
        let created = try groups.create(configuration)
        let directory = created.directory
        return (directory, try launch(directory, created.takeLock(), reference, attach))
    }

    /// How long a process that is being torn down, which takes as long as its memory is large, may hold the group's lock.
    private static let tornDownMilliseconds: Int64 = 30_000
    private static let answerMilliseconds: Int32 = 1000

    private func takeLock(of directory: GroupDirectory) throws -> GroupLock {
        let deadline = clinux_monotonic_milliseconds() + GroupRestorer.tornDownMilliseconds
        while true {
            if let lock = try GroupLock.take(directory.lockPath) { return lock }
            let isThere = ControlClient(directory).answers(withinMilliseconds: GroupRestorer.answerMilliseconds)
            guard !isThere, clinux_monotonic_milliseconds() < deadline else {
                throw GroupError(
                    .isRunning, "Group \(name) is running",
                    remedy: "Put it back in place with: aurora rollback \(name), or make another with: aurora restore \(name) --as NEW")
            }
            usleep(20_000)
        }
    }

    /// Makes a new group.
    func restore(_ selector: CheckpointChoice, as newName: GroupName, ports: [PortMapping]?, attach: Bool) throws {
        let stream = GroupDirectory.streamName(newName)
        if try access.hasStream(stream) {
            throw GroupError(
                .nameTaken, "The store has a history of a group \(newName)",
                remedy: "Choose another name, or remove it with: aurora rm --force \(newName)")
        }
        let (reference, context) = try retrying(selector) { ($0, try access.context($0)) }
        var configuration = context.configuration
        configuration.name = newName
        configuration.createdAt = Timestamp.now()
        configuration.removeWhenEnded = false
        configuration.ports =
            ports
            ?? configuration.ports.map { mapping in
                var mapping = mapping
                mapping.hostPort = 0
                return mapping
            }
        configuration.persistence = configuration.persistence ?? PersistenceSettings()
        configuration.storePath = foreignStorePath
        let created = try CommandContext.store.create(configuration)
        let directory = created.directory
        let origin: CheckpointAddress
        do { origin = try beginHistory(stream, at: reference, or: selector) } catch {
            try? directory.removeFiles(in: CommandContext.data)
            throw error
        }
        let outcome = try launch(directory, created.takeLock(), origin, attach)
        if case .failed = outcome, GroupStarter.forgetIfNothingRan(directory) { try? access.removeStream(stream) }
        try finish(outcome, directory)
    }

    /// The new group's history begins with the checkpoint before anything reads it: from then on nobody can drop it.
    private func beginHistory(
        _ stream: String, at reference: CheckpointAddress, or selector: CheckpointChoice
    ) throws -> CheckpointAddress {
        var first: CheckpointAddress? = reference
        return try retrying(selector) { found in
            let address = first ?? found
            first = nil
            let origin = try access.reader(address).reference
            let writer = try access.store.createStream(
                name: stream, origin: origin, time: UInt64(clamping: Timestamp.wallClockNanoseconds()))
            try writer.finish()
            return address
        }
    }

    /// How often a checkpoint that is no fixed one is looked for anew, when its group has dropped it meanwhile.
    private static let choicesMax = 20

    private func retrying<Result>(_ selector: CheckpointChoice, _ body: (CheckpointAddress) throws -> Result) throws -> Result {
        for _ in 1..<GroupRestorer.choicesMax {
            do { return try body(try find(selector)) } catch let error as StoreError {
                guard case .noCheckpoint = error, !selector.isFixed else { throw error }
            }
        }
        return try body(try find(selector))
    }

    private var foreignStorePath: String? { access.path == CommandContext.data.ownStorePath ? nil : access.path }

    private func find(_ selector: CheckpointChoice) throws -> CheckpointAddress {
        let stream = GroupDirectory.streamName(name)
        guard try access.hasStream(stream) else {
            let exists = (try? CommandContext.store.find(name)) != nil
            throw GroupError(
                .notFound, exists ? "Group \(name) has no checkpoints" : "There is no group named \(name), nor a history of one",
                remedy: exists ? "Groups are checkpointed when started with aurora persist." : "List the groups with: aurora ps -a")
        }
        return try access.resolve(stream, selector)
    }

    private func launch(
        _ directory: GroupDirectory, _ lock: consuming GroupLock, _ reference: CheckpointAddress, _ attach: Bool
    ) throws -> StdioClient.Outcome {
        let configuration = try directory.configuration()
        let size = attach && configuration.terminal ? TerminalMode.size(of: 0) : nil
        let socket = try VMMLauncher.start(directory, lock: lock, restoring: reference, terminalSize: size)
        let takesInput = attach && (configuration.wantsInput || configuration.terminal)
        let options = StdioClient.Options(
            forwardsInput: takesInput, terminal: attach && configuration.terminal, detachesOnceStarted: !attach, redraws: true)
        return try StdioClient(socket, options, onStarted: { GroupStarter.tellWarnings(directory) }).run()
    }

    private func finish(_ outcome: StdioClient.Outcome, _ directory: GroupDirectory) throws {
        if case .detached = outcome { return print(directory.name) }
        try outcome.finish(lost: lost(directory))
    }

    private func lost(_ directory: GroupDirectory) -> String {
        "The VMM process of group \(directory.name) was killed, or failed; see \(directory.engineLogPath)"
    }
}
