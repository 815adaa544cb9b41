import ArgumentParser
import CLinux
import Groups
import Linux

/// `aurora events`: what happened to running groups.
struct EventsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "events", abstract: "Show what happened to running groups: states, checkpoints asked for, health, warnings.",
        discussion: """
            A group's process keeps its last 512 events; engine.log has its warnings for longer. A follower that was too slow is told \
            how many it lost.
            """)

    @Flag(name: .shortAndLong, help: "Go on until the groups end.")
    var follow = false

    @Option(help: "How to write them: table, or json (an object a line).")
    var format = ListFormat.table

    @Argument(help: "The groups' names; all that run when absent.") var groups: [String] = []

    private static let pollMicroseconds: UInt32 = 250_000

    func run() throws {
        let directories = try groups.isEmpty ? CommandContext.store.list() : groups.map { try CommandContext.group($0) }
        let live = directories.filter { (try? $0.isLive()) ?? false }
        if let ended = directories.first(where: { !live.map(\.name).contains($0.name) }), !groups.isEmpty {
            throw GroupError(.notRunning, "Group \(ended.name) is not running", remedy: "What it said is in \(ended.engineLogPath).")
        }
        var readers = live.map { EventReader($0) }
        while true {
            var isLive = false
            for index in readers.indices {
                let found = readers[index].next()
                for line in found ?? [] { print(format == .json ? try CommandContext.jsonLine(line) : line.text) }
                isLive = isLive || found != nil
            }
            fflush(nil)
            guard follow, isLive else { return }
            usleep(EventsCommand.pollMicroseconds)
        }
    }
}

/// An event of a group as it is shown; `lost` stands for events that are no longer kept.
struct EventLine: Encodable {
    let group: String
    let number: UInt64
    let time: String
    let kind: String
    let message: String
    var lost: UInt64?

    var text: String { "\(time) \(group) \(kind): \(Table.printable(message, charactersMax: 1000))" }
}

/// Reads the events of one group, each once.
struct EventReader {
    private let directory: GroupDirectory
    private var seen: UInt64 = 0
    private var process: Int32?

    init(_ directory: GroupDirectory) { self.directory = directory }

    /// Those that are new; nil when the group has ended.
    mutating func next() -> [EventLine]? {
        guard var page = try? ControlClient(directory).events(after: seen) else { return nil }
        if let process, process != page.process {
            // It was restored meanwhile: another process, other numbers.
            guard let anew = try? ControlClient(directory).events(after: 0) else { return nil }
            page = anew
        }
        process = page.process
        seen = page.latest
        let name = directory.name.text
        var lines = page.events.map {
            EventLine(group: name, number: $0.number, time: $0.time, kind: $0.kind.rawValue, message: $0.message)
        }
        if page.lost > 0 {
            let time = page.events.first?.time ?? Timestamp.now()
            lines.insert(
                EventLine(
                    group: name, number: 0, time: time, kind: "lost", message: "\(page.lost) events are no longer kept", lost: page.lost),
                at: 0)
        }
        return lines
    }
}
