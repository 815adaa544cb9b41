import ArgumentParser
import Groups

/// `aurora rm`: removes groups with their logs and disks.
struct RmCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "rm", abstract: "Remove groups, with their logs and disks.")

    @Flag(name: .shortAndLong, help: "End running groups first; be silent about groups that do not exist.")
    var force = false

    @Argument(help: "Names of groups.") var names: [String]

    func run() throws {
        try CommandContext.forEach(names) { name in
            let checked = try GroupName(name)
            do {
                if force { try GroupEnding.force(try CommandContext.store.find(checked)) }
                try CommandContext.store.remove(checked)
                print(name)
            } catch let error as GroupError {
                // Somebody, perhaps the group itself, removed it first: that is what was asked for.
                guard force, error.kind == .notFound else { throw error }
            }
        }
    }
}
