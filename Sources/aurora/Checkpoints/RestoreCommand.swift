import ArgumentParser
import Groups
import Linux

/// `aurora restore`: a group goes on from a checkpoint.
struct RestoreCommand: EngineCommand {
    static let configuration = CommandConfiguration(
        commandName: "restore", abstract: "Resume a group from a checkpoint, after a crash or at any time; or several.",
        usage: """
            aurora restore NAME [--at WHICH] [--as NEW]
            aurora restore --all
            """,
        discussion: """
            WHICH is latest (the newest durable checkpoint; of a group that was stopped, the one taken before its program was told to \
            end), a number, a name, a time (2026-01-31T12:00:00Z) or an age (-30s, -5m). \
            Restoring an older one leaves the newer ones as they are: the group's history goes on after them. With --as a new \
            group goes on, any number of times; its ports are published on numbers the kernel chooses unless -p says otherwise.
            """)

    @Option(name: [.customLong("at"), .customLong("to")], parsing: .unconditional, help: "Which checkpoint.")
    var selector = "latest"

    @Option(name: .customLong("as"), parsing: .unconditional, help: "Make a new group of this name.")
    var newName: String?

    @Flag(
        help: """
            Resume all groups that ended without their program having ended, after a crash of the host; also those for which that \
            was tried and failed.
            """)
    var all = false

    @Flag(help: "Join this terminal to the program, as aurora attach does.")
    var attach = false

    @Option(
        name: [.customShort("p"), .customLong("publish")], parsing: .unconditionalSingleValue,
        help: "With --as: publish a TCP port, as in aurora run.")
    var ports: [String] = []

    @OptionGroup var store: StoreOptions

    @Argument(help: "The group's name.") var name: String?

    func validate() throws {
        guard all == (name == nil) else { throw ValidationError(all ? "--all takes no NAME." : "Name a group, or write --all.") }
        guard !all || (newName == nil && selector == "latest" && !attach) else {
            throw ValidationError("--all resumes every group where it was, in the background.")
        }
        guard ports.isEmpty || newName != nil else { throw ValidationError("-p is for a new group: it needs --as.") }
        try CommandContext.validate { () throws(GroupError) in
            _ = try CheckpointChoice(parsing: selector)
            for port in ports { _ = try PortMapping(parsing: port) }
        }
    }

    func run() throws {
        guard let name else { return try restoreAll() }
        let selector = try CheckpointChoice(parsing: selector)
        if let newName {
            let restorer = try GroupRestorer(try GroupName(name), store)
            let mappings = ports.isEmpty ? nil : try ports.map { try PortMapping(parsing: $0) }
            try restorer.restore(selector, as: try GroupName(newName), ports: mappings, attach: attach)
        } else {
            try GroupRestorer(try GroupName(name), store).restore(selector, attach: attach)
        }
    }

    private func restoreAll() throws {
        try CommandContext.forEach(try CommandContext.store.list().map(\.name.text)) { name in
            let directory = try CommandContext.group(name)
            guard RestoreCommand.isWaiting(try directory.status(), try directory.configuration()) else { return }
            try GroupRestorer(try GroupName(name), store).restoreAsBefore()
        }
    }

    /// Whether a group would run, had not its process been killed, or could it have gone on when that was tried before.
    private static func isWaiting(_ status: GroupStatus, _ configuration: GroupConfiguration) -> Bool {
        guard status.state == .dead || (status.state == .failed && status.failedToResume ?? false) else { return false }
        return configuration.persistence != nil || status.backends?.contains(.store) ?? false
    }
}

/// `aurora clone`: a second group that goes on from where the first is.
struct CloneCommand: EngineCommand {
    static let configuration = CommandConfiguration(
        commandName: "clone", abstract: "Make a second group that goes on from where the first is; both run on.",
        discussion: "A running group is checkpointed first. Memory and disks are shared until one of them writes.")

    @Option(name: .customLong("at"), parsing: .unconditional, help: "Clone an older checkpoint, as in aurora restore.")
    var selector: String?

    @Option(
        name: [.customShort("p"), .customLong("publish")], parsing: .unconditionalSingleValue, help: "Publish a TCP port, as in aurora run."
    )
    var ports: [String] = []

    @OptionGroup var store: StoreOptions

    @Argument(help: "The group's name.") var group: String
    @Argument(help: "The new group's name.") var newName: String

    func validate() throws {
        try CommandContext.validate { () throws(GroupError) in
            if let selector { _ = try CheckpointChoice(parsing: selector) }
            for port in ports { _ = try PortMapping(parsing: port) }
        }
    }

    func run() throws {
        let name = try GroupName(group)
        let newName = try GroupName(newName)
        if (try? CommandContext.store.find(newName)) != nil {
            throw GroupError(.nameTaken, "The name \(newName) is taken", remedy: "Choose another, or remove it: aurora rm \(newName)")
        }
        var wanted = CheckpointChoice.latest
        if let selector {
            wanted = try CheckpointChoice(parsing: selector)
        } else if let directory = try? CommandContext.store.find(name), try directory.isLive() {
            // The latest is this one or a later one: by its number a group with a short history might have dropped it.
            _ = try ControlClient(try CommandContext.runningGroup(group)).checkpoint()
        }
        let mappings = ports.isEmpty ? nil : try ports.map { try PortMapping(parsing: $0) }
        try GroupRestorer(name, store).restore(wanted, as: newName, ports: mappings, attach: false)
    }
}
