import ArgumentParser
import CLinux
import Groups
import Linux

/// `aurora top`: what running groups cost and how their checkpoints go, again and again.
struct TopCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "top", abstract: "Show what running groups use and how their checkpoints go, until interrupted.",
        discussion: """
            As JSON, not on a terminal, or with --no-stream, it prints once; with --watch it goes on in any case, as JSON with one line \
            a look. LAST are the stop times of late, each a block.
            """)

    @Option(
        name: [.customShort("i"), .long], parsing: .unconditional,
        help: ArgumentHelp("The time between two looks: 1, 500ms.", valueName: "time"), transform: TimeSpan.option)
    var interval = 1.0

    @Flag(name: .customLong("no-stream"), help: "Print once.")
    var once = false

    @Flag(name: .shortAndLong, help: "Go on until interrupted, whatever the format and wherever it goes.")
    var watch = false

    @Option(parsing: .unconditional, help: "How to write it: table or json.")
    var format = ListFormat.table

    @Argument(help: "These groups only.") var names: [String] = []

    func validate() throws {
        guard !once || !watch else { throw ValidationError("--no-stream and --watch exclude each other.") }
        guard (0.1...3600).contains(interval) else { throw ValidationError("--interval must be 0.1 to 3600 seconds.") }
    }

    func run() throws {
        var sampler = TopSampler()
        _ = try sampler.sample(names)
        let isOnTerminal = Terminal.isTerminal(1)
        let repeats = watch || (!once && format == .table && isOnTerminal)
        usleep(UInt32((repeats ? interval : min(interval, 0.5)) * 1_000_000))
        while true {
            let rows = try sampler.sample(names)
            if format == .json {
                print(try CommandContext.json(rows, isOneLine: repeats))
            } else {
                // The screen is cleared from the cursor on, after the text, so that nothing flickers.
                let redraws = repeats && isOnTerminal
                if redraws { print("\u{1B}[H", terminator: "") }
                Table(TopRow.head, rows.map(\.cells)).print(lineEnd: redraws ? "\u{1B}[K" : "")
                if redraws { print("\u{1B}[J", terminator: "") }
            }
            fflush(nil)
            guard repeats else { return }
            usleep(UInt32(interval * 1_000_000))
        }
    }
}

/// One group in `top`.
struct TopRow: Encodable {
    let name: String
    let state: String
    /// Percent of one processor.
    let processor: Double
    let residentBytes: Int
    let memoryBytes: Int
    let checkpoints: PersistenceReport?
    /// Stop times of the last looks in microseconds, as a row of blocks.
    let recent: String

    static let head = [
        "NAME", "STATE", "CPU", "RSS/MEMORY", "RATE", "STOP p50/p99", "DIRTY", "LAG", "STORED", "DEDUP", "BACKENDS", "LAST",
    ]

    var cells: [String] {
        let summary = GroupSummary.checkpointCells(checkpoints)
        let backends = checkpoints?.backends.map { $0.error == nil ? $0.kind.rawValue : "\($0.kind.rawValue) (failed)" } ?? []
        return [
            name, state + (checkpoints?.note.map { ", \($0)" } ?? ""), "\(CheckpointFormat.tenths(processor))%",
            "\(MemorySize.format(residentBytes))/\(MemorySize.format(memoryBytes))",
        ] + summary + [backends.isEmpty ? "-" : backends.joined(separator: ","), recent]
    }
}

/// Looks at running groups, and remembers what it saw.
struct TopSampler {
    private struct Seen {
        var ticks: Int
        var time: Int64
        var stops: [Double]
    }
    private var seen: [String: Seen] = [:]
    /// Looks that are shown.
    private static let recentMax = 20
    private static let ticksPerSecond = max(1, sysconf(Int32(_SC_CLK_TCK)))

    /// The groups that run now.
    mutating func sample(_ names: [String]) throws -> [TopRow] {
        let directories = names.isEmpty ? try CommandContext.store.list() : try names.map { try CommandContext.group($0) }
        var rows: [TopRow] = []
        for directory in directories {
            guard let status = try? directory.status(), status.isLive, let process = status.processID,
                let configuration = try? directory.configuration()
            else { continue }
            let report = status.backends == nil ? nil : try? ControlClient(directory).persistence()
            let usage = TopSampler.usage(of: process)
            let now = clinux_monotonic_milliseconds()
            let name = directory.name.text
            let before = seen[name]
            var stops = before?.stops ?? []
            if let stop = report?.stops?.median { stops = Array((stops + [stop]).suffix(TopSampler.recentMax)) }
            seen[name] = Seen(ticks: usage.ticks, time: now, stops: stops)
            var processor = 0.0
            if let before, now > before.time {
                processor = Double(max(0, usage.ticks - before.ticks)) / Double(TopSampler.ticksPerSecond) / Double(now - before.time) * 1e5
            }
            rows.append(
                TopRow(
                    name: name, state: status.state.rawValue, processor: processor, residentBytes: usage.residentBytes,
                    memoryBytes: configuration.memoryBytes, checkpoints: report, recent: TopSampler.blocks(stops)))
        }
        return rows
    }

    /// Time used so far and memory of a process, from /proc (proc(5)).
    private static func usage(of process: Int32) -> (ticks: Int, residentBytes: Int) {
        guard let text = SmallFile.text("/proc/\(process)/stat"), let end = text.lastIndex(of: ")") else { return (0, 0) }
        let fields = text[text.index(after: end)...].split(separator: " ")
        guard fields.count > 21, let user = Int(fields[11]), let system = Int(fields[12]), let pages = Int(fields[21]) else {
            return (0, 0)
        }
        return (user &+ system, pages &* 4096)
    }

    /// Values as blocks of different heights.
    private static func blocks(_ values: [Double]) -> String {
        let signs = Array("▁▂▃▄▅▆▇█")
        guard let most = values.max(), most > 0 else { return "" }
        return String(values.map { signs[min(signs.count - 1, max(0, Int($0 / most * Double(signs.count))))] })
    }
}
