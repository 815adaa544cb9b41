import AgentProtocol
import Groups
import Linux

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
        let reference = try find(selector)
        let groups = CommandContext.store
        if let directory = try? groups.find(name) {
            guard let lock = try GroupLock.take(directory.lockPath) else {
                throw GroupError(
                    .isRunning, "Group \(name) is running",
                    remedy: "Put it back in place with: aurora rollback \(name), or make another with: aurora restore \(name) --as NEW")
            }
            return try launch(directory, lock, reference, attach)
        }
        // Only the history was left: what the group was is in its checkpoints.
        var configuration = try access.context(reference).configuration
        configuration.storePath = foreignStorePath
        let created = try groups.create(configuration)
        let directory = created.directory
        try launch(directory, created.takeLock(), reference, attach)
    }

    /// Makes a new group.
    func restore(_ selector: CheckpointChoice, as newName: GroupName, ports: [PortMapping]?, attach: Bool) throws {
        let reference = try find(selector)
        if try access.hasStream(GroupDirectory.streamName(newName)) {
            throw GroupError(
                .nameTaken, "The store has a history of a group \(newName)",
                remedy: "Choose another name, or remove it with: aurora rm --force \(newName)")
        }
        var configuration = try access.context(reference).configuration
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
        try launch(directory, created.takeLock(), reference, attach)
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
    ) throws {
        let configuration = try directory.configuration()
        let size = attach && configuration.terminal ? TerminalMode.size(of: 0) : nil
        let socket = try VMMLauncher.start(directory, lock: lock, restoring: reference, terminalSize: size)
        let takesInput = attach && (configuration.wantsInput || configuration.terminal)
        let options = StdioClient.Options(
            forwardsInput: takesInput, terminal: attach && configuration.terminal, detachesOnceStarted: !attach, redraws: true)
        let outcome = try StdioClient(socket, options, onStarted: { GroupStarter.tellWarnings(directory) }).run()
        if case .detached = outcome { return print(directory.name) }
        if case .failed = outcome, reference.stream != directory.streamName { GroupStarter.forgetIfNothingRan(directory) }
        try outcome.finish(lost: "The VMM process of group \(directory.name) was killed, or failed; see \(directory.engineLogPath)")
    }
}
