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

    @Option(help: "How to write the list: table or json.")
    var format = ListFormat.table

    @Argument(help: "Show these groups only, in whatever state.") var names: [String] = []

    func run() throws {
        if objects { return try showObjects() }
        let entries = try list()
        if quiet {
            for entry in entries { print(entry.name) }
        } else if format == .json {
            print(try CommandContext.json(entries))
        } else {
            let rows = entries.map(\.row)
            Table(["NAME", "STATE", "IMAGE", "MEMORY", "PORTS", "CREATED", "COMMAND"], rows).print()
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
        return directories.compactMap { directory in
            let summary = GroupSummary(directory)
            return summary.map { all || !names.isEmpty || $0.isLive ? $0 : nil } ?? nil
        }
    }
}

/// A group as `ps` shows it; one that is damaged does not hide the others.
struct GroupSummary: Encodable {
    let name: String
    let state: String
    let isLive: Bool
    let image: String?
    let memoryBytes: Int?
    let ports: [PortMapping]
    let command: [String]
    let createdAt: String?
    let endedAt: String?
    let exitCode: Int32?
    let error: String?

    /// Nil when the group was removed meanwhile.
    init?(_ directory: GroupDirectory) {
        name = directory.name.text
        do throws(GroupError) {
            let configuration = try directory.configuration()
            let status = try directory.status()
            state = status.state.rawValue
            isLive = status.isLive
            image = configuration.image
            memoryBytes = configuration.memoryBytes
            ports = status.isLive ? status.ports : configuration.ports
            command = configuration.command
            createdAt = configuration.createdAt
            endedAt = status.endedAt
            exitCode = status.exitCode
            error = status.error
        } catch {
            if error.kind == .notFound { return nil }
            (state, isLive, image, memoryBytes, ports, command, createdAt, endedAt, exitCode) = (
                "damaged", false, nil, nil, [], [], nil, nil, nil
            )
            self.error = error.message
        }
    }

    /// The cells of the table.
    var row: [String] {
        let ago = endedAt.map { " \(Timestamp.age(of: $0)) ago" } ?? ""
        let code = exitCode.map { " (\($0))" } ?? ""
        return [
            name, isLive ? state : state + code + ago, image ?? "?", memoryBytes.map(MemorySize.format) ?? "?",
            ports.map(\.description).joined(separator: ", "), createdAt.map { "\(Timestamp.age(of: $0)) ago" } ?? "?",
            Table.printable(command.joined(separator: " "), charactersMax: 40),
        ]
    }
}
