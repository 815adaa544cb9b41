import ArgumentParser
import FoundationEssentials
import Functions
import Groups
import Linux

/// `aurora fn ls`.
struct FnListCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "ls", abstract: "List the functions.", aliases: ["list"])

    @OptionGroup var gateway: GatewayOptions
    @Option(parsing: .unconditional, help: "How to print the list: table or json.") var format = ListFormat.table
    @Flag(name: [.short, .long], help: "Print names only.") var quiet = false

    func run() throws {
        let functions = try gateway.status().functions
        if quiet {
            for function in functions { print(function.name) }
        } else if format == .json {
            print(try CommandContext.json(functions))
        } else {
            let rows = functions.map { function in
                [
                    function.name, function.runtime, function.handler, FnListCommand.state(function), "\(function.memoryMiB)M",
                    "\(function.timeoutSeconds) s", function.launchBytes.map { MemorySize.format($0) } ?? "-",
                    "\(function.active + function.idle)", "\(FnListCommand.requests(function))",
                    String(function.modifiedAt.prefix(19)),
                ]
            }
            Table(["NAME", "RUNTIME", "HANDLER", "STATE", "MEMORY", "TIMEOUT", "LAUNCH", "INSTANCES", "REQUESTS", "MODIFIED"], rows).print()
        }
    }

    static func requests(_ function: StatusReport.Function) -> UInt64 { function.outcomes.values.reduce(0, +) }

    static func state(_ function: StatusReport.Function) -> String {
        switch (function.state, function.updateStatus) {
        case ("Active", "InProgress"): "Updating"
        case ("Active", "Failed"): "Active, update failed"
        case (let state, _): state
        }
    }
}

/// `aurora fn stat`.
struct FnStatCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "stat", abstract: "Show requests, times and instances of functions, since the gateway was started.")

    @OptionGroup var gateway: GatewayOptions
    @Argument(help: "The functions; all by default.") var names: [String] = []
    @Option(parsing: .unconditional, help: "How to print: table or json.") var format = ListFormat.table

    func run() throws {
        let status = try gateway.status()
        for name in names where !status.functions.contains(where: { $0.name == name }) { _ = try gateway.status(of: name) }
        let functions = status.functions.filter { names.isEmpty || names.contains($0.name) }
        if format == .json { return print(try CommandContext.json(functions)) }
        var rows: [[String]] = []
        for function in functions {
            let errors = FnListCommand.requests(function) - (function.outcomes["success"] ?? 0)
            let memory = function.privateBytes.map { MemorySize.format($0) } ?? "-"
            let peak = function.memoryPeakBytes.map { MemorySize.format($0) } ?? "-"
            for kind in StartKind.allCases {
                guard let times = function.times[kind.rawValue] else { continue }
                rows.append([
                    function.name, kind.rawValue, "\(times.count)", text(times.p50), text(times.p90), text(times.p99), "\(errors)",
                    "\(function.active)+\(function.idle)", memory, peak,
                ])
            }
            if function.times.isEmpty {
                rows.append([function.name, "-", "0", "-", "-", "-", "\(errors)", "\(function.active)+\(function.idle)", memory, peak])
            }
        }
        Table(["NAME", "START", "REQUESTS", "P50 ms", "P90 ms", "P99 ms", "ERRORS", "BUSY+IDLE", "PRIVATE", "MAX MEMORY"], rows).print()
    }

    private func text(_ milliseconds: Double) -> String {
        let hundredths = Int((milliseconds * 100).rounded())
        return "\(hundredths / 100).\(hundredths % 100 < 10 ? "0" : "")\(hundredths % 100)"
    }
}

/// `aurora fn logs`.
struct FnLogsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "logs", abstract: "Print the end of what a function printed.")

    @OptionGroup var gateway: GatewayOptions
    @Argument(help: "The function's name.") var name: String
    @Option(parsing: .unconditional, help: "How many bytes of the end, at most.") var bytes = 65536

    func run() throws {
        _ = try GatewayOptions.path(name)
        let answer = try gateway.send("GET", "/aurora/functions/\(name)/log?bytes=\(bytes)")
        print(FnLogsCommand.lines(answer.body), terminator: "")
    }

    /// A log as lines: `awslambdaric` puts carriage returns between the lines of one message, which a terminal writes over each other.
    static func lines(_ bytes: [UInt8]) -> String {
        var lines = bytes
        for (index, byte) in bytes.enumerated() where byte == 13 && (index + 1 == bytes.count || bytes[index + 1] != 10) {
            lines[index] = 10
        }
        return String(decoding: lines, as: UTF8.self)
    }
}

/// `aurora fn rm`.
struct FnRemoveCommand: ParsableCommand {
    static let configuration = CommandConfiguration(commandName: "rm", abstract: "Remove functions.", aliases: ["remove"])

    @OptionGroup var gateway: GatewayOptions
    @Argument(help: "The functions.") var names: [String]
    @Flag(name: [.short, .long], help: "Do not fail for functions that are not there.") var force = false

    func run() throws {
        try CommandContext.forEach(names) { name in
            do {
                _ = try gateway.send("DELETE", try GatewayOptions.path(name))
                print(name)
            } catch let error as GatewayRefusal where error.status == 404 && force {}
        }
    }
}

/// `aurora fn events`.
struct FnEventsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "events", abstract: "List asynchronous invocations that wait, and those that were given up (dead letters).")

    @OptionGroup var gateway: GatewayOptions
    @Argument(help: "The function; all by default.") var name: String?
    @Option(parsing: .unconditional, help: "How to print: table or json.") var format = ListFormat.table
    @Option(parsing: .unconditional, help: ArgumentHelp("Take a dead letter away.", valueName: "id")) var remove: String?

    @Option(parsing: .unconditional, help: ArgumentHelp("Have a dead letter delivered again.", valueName: "id")) var replay: String?

    func validate() throws {
        for identifier in [remove, replay].compactMap(\.self)
        where !identifier.utf8.allSatisfy({ (48...57).contains($0) || (97...102).contains($0) || $0 == 45 }) {
            throw ValidationError("\(identifier.prefix(64)) is not a request's id")
        }
        if remove != nil, replay != nil { throw ValidationError("--remove and --replay contradict each other") }
    }

    func run() throws {
        if let identifier = remove ?? replay {
            _ = try gateway.send(remove == nil ? "POST" : "DELETE", "/aurora/events/\(identifier)")
            return
        }
        if let name { _ = try GatewayOptions.path(name) }
        let answer = try gateway.send("GET", "/aurora/events\(name.map { "?function=\($0)" } ?? "")")
        let report = try JSONDecoder().decode(EventsReport.self, from: Data(answer.body))
        if format == .json { return print(try CommandContext.json(report.events)) }
        let rows = report.events.map { event in
            [
                event.identifier, event.function, event.state, "\(event.attempts)", String(event.receivedAt.prefix(19)),
                Table.printable(event.failure ?? "", charactersMax: 60),
            ]
        }
        Table(["ID", "FUNCTION", "STATE", "ATTEMPTS", "RECEIVED", "LAST FAILURE"], rows).print()
    }
}
