import ArgumentParser
import Groups

/// `aurora inspect`: all that is known of groups, in JSON.
struct InspectCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "inspect", abstract: "Show all that is known of groups, as a JSON array.")

    @Argument(help: "Names of groups.") var names: [String]

    private struct Description: Encodable {
        struct Files: Encodable {
            let directory: String
            let log: String
            let engineLog: String
            let console: String
            let controlSocket: String
            let vsockSocket: String
        }
        /// What keeps its programs apart from their kernel.
        struct Isolation: Encodable {
            let kind: GroupIsolation
            let meaning: String
        }
        let configuration: GroupConfiguration
        let status: GroupStatus
        /// Nil for a group that has not booted.
        let isolation: Isolation?
        /// How its checkpoints go, while it runs and has any.
        let persistence: PersistenceReport?
        let files: Files

        init(_ directory: GroupDirectory) throws(GroupError) {
            configuration = try directory.configuration()
            let status = try directory.status()
            self.status = status
            isolation = GroupIsolation(mode: status.mode, setting: configuration.isolation).map { Isolation(kind: $0, meaning: $0.meaning) }
            persistence = status.isLive && status.backends != nil ? try? ControlClient(directory).persistence() : nil
            files = Files(
                directory: directory.path, log: directory.logPath, engineLog: directory.engineLogPath, console: directory.consolePath,
                controlSocket: directory.controlSocketPath, vsockSocket: directory.vsockSocketPath)
        }
    }

    func run() throws {
        var found: [Description] = []
        let result = Result { try CommandContext.forEach(names) { found.append(try Description(try CommandContext.group($0))) } }
        print(try CommandContext.json(found))
        try result.get()
    }
}
