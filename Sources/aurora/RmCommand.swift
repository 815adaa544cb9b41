import ArgumentParser
import Groups

/// `aurora rm`: removes groups with their logs and disks.
struct RmCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rm", abstract: "Remove groups, with their logs, disks and history.",
        discussion: "A group that has checkpoints is only removed with --force: with them goes what could be resumed.")

    @Flag(name: .shortAndLong, help: "End running groups first; remove their history; be silent about groups that do not exist.")
    var force = false

    @Argument(help: "Names of groups.") var names: [String]

    func run() throws {
        try CommandContext.forEach(names) { name in
            let checked = try GroupName(name)
            do {
                if force, let directory = try? CommandContext.store.find(checked) { try GroupEnding.force(directory) }
                let history = try GroupHistory(checked)
                if !force { try history.requireNone() }
                try removeFiles(checked, hasHistory: history.exists)
                try history.remove()
                print(name)
            } catch let error as GroupError {
                // Somebody, perhaps the group itself, removed it first: that is what was asked for.
                guard force, error.kind == .notFound else { throw error }
            }
        }
    }

    /// The history of a group whose files are gone may be all that is left of it.
    private func removeFiles(_ name: GroupName, hasHistory: Bool) throws {
        do throws(GroupError) {
            try CommandContext.store.remove(name)
        } catch {
            guard hasHistory, error.kind == .notFound else { throw error }
        }
    }
}

/// What the store has of a group.
private struct GroupHistory {
    private let name: GroupName
    private let access: StoreAccess?
    let exists: Bool

    init(_ name: GroupName) throws {
        self.name = name
        access = try StoreAccess.openIfPresent(CommandContext.storePath(of: name))
        exists = try access?.hasStream(GroupDirectory.streamName(name)) ?? false
    }

    func requireNone() throws {
        guard exists, let directory = try? CommandContext.store.find(name), try !directory.isLive() else { return }
        throw GroupError(
            .isRunning, "Group \(name) has checkpoints from which it can be resumed",
            remedy: "Resume it with: aurora restore \(name). Remove it with all of them: aurora rm --force \(name)")
    }

    func remove() throws { if exists { try access?.removeStream(GroupDirectory.streamName(name)) } }
}
