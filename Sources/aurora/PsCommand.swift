import AgentClient
import AgentProtocol
import ArgumentParser
import Groups
import Linux

/// `aurora ps`: the groups, or the objects of one.
struct PsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "ps", abstract: "List groups.")

    @Flag(name: .shortAndLong, help: "Show groups that have ended too.")
    var all = false

    @Flag(name: .shortAndLong, help: "Show names only.")
    var quiet = false

    @Flag(help: "Show processes, descriptors and the other objects inside the groups.")
    var objects = false

    @Option(parsing: .unconditional, help: "How to write the list: table or json.")
    var format = ListFormat.table

    @Argument(help: "Show these groups only, in whatever state.") var names: [String] = []

    func run() throws {
        if objects { return try showObjects() }
        let entries = try list()
        if quiet {
            for entry in entries { print(entry.name.visibleLine) }
        } else if format == .json {
            print(try CommandContext.json(entries))
        } else {
            // Who has no group with checkpoints is not shown columns of dashes.
            let hasCheckpoints = entries.contains { $0.checkpoints != nil }
            Table(GroupSummary.head(checkpoints: hasCheckpoints), entries.map { $0.row(checkpoints: hasCheckpoints) }).print()
        }
    }

    private struct GroupObjects: Encodable {
        let name: String
        let objects: ObjectReport
    }

    private func showObjects() throws {
        let wanted = names.isEmpty ? try list().filter { $0.state == "running" }.map(\.name) : names
        var reports: [GroupObjects] = []
        let result = Result {
            try CommandContext.forEach(wanted) { name in
                let agent = try GroupAgent.connect(try CommandContext.runningGroup(name))
                reports.append(GroupObjects(name: name, objects: try agent.objects()))
            }
        }
        if format == .json {
            print(try CommandContext.json(reports))
        } else {
            for report in reports {
                if wanted.count > 1 { print("group \(report.name)") }
                ObjectListing(report.objects).print()
            }
        }
        try result.get()
    }

    private func list() throws -> [GroupSummary] {
        let directories = names.isEmpty ? try CommandContext.store.list() : try names.map { try CommandContext.group($0) }
        var entries = directories.compactMap { directory in
            let summary = GroupSummary(directory)
            return summary.map { all || !names.isEmpty || $0.isLive ? $0 : nil } ?? nil
        }
        if all || !names.isEmpty { addResumable(&entries) }
        return entries
    }

    /// Groups that do not run, and what there is in the store to resume them; also of those whose files are gone.
    private func addResumable(_ entries: inout [GroupSummary]) {
        let usual = CommandContext.data.storePath
        let stores = entries.map { entry in (try? GroupName(entry.name)).map(CommandContext.storePath(of:)) ?? usual }
        for path in Set(stores).union([usual]) {
            guard let access = try? StoreAccess.openForReading(path), let streams = try? access.streams() else { continue }
            for stream in streams where stream.name.hasPrefix("group/") && stream.latestNumber != nil {
                let name = String(stream.name.dropFirst("group/".count))
                if let index = stores.indices.first(where: { entries[$0].name == name }) {
                    if stores[index] == path, !entries[index].isLive { entries[index].resumableNumber = stream.latestNumber }
                } else if names.isEmpty, path == usual {
                    entries.append(GroupSummary(stored: name, stream))
                }
            }
        }
    }
}
