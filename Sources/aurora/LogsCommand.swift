import ArgumentParser
import CLinux
import Groups
import Linux

/// `aurora logs`: what a group's program wrote.
struct LogsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "logs", abstract: "Show what a group's program wrote, to the same streams.")

    @Flag(name: .shortAndLong, help: "Go on until the group ends.")
    var follow = false

    @Option(name: [.customShort("n"), .long], help: "Show only the last lines.")
    var tail: Int?

    @Flag(name: [.customShort("T"), .long], help: "Begin every line with the time it was received.")
    var timestamps = false

    @Flag(help: "Show the guest's console instead.")
    var console = false

    @Argument(help: "The group's name.") var name: String

    private static let pollMicroseconds: UInt32 = 50_000

    func validate() throws {
        if let tail, tail < 0 { throw ValidationError("--tail must not be negative.") }
    }

    func run() throws {
        let directory = try CommandContext.group(name)
        if console { return try showConsole(directory) }
        var reader = LogReader(path: directory.logPath)
        try show(try last(&reader))
        while follow {
            // The end is asked for before the log is read: what came before it is then shown in any case.
            let isLive = try directory.isLive()
            let records = try drain(&reader)
            try show(records)
            if !isLive { return }
            if records.isEmpty { usleep(LogsCommand.pollMicroseconds) }
        }
    }

    private func drain(_ reader: inout LogReader) throws -> [LogRecord] {
        var all: [LogRecord] = []
        while true {
            let records = try reader.next()
            if records.isEmpty { return all }
            all += records
        }
    }

    /// The records of the last lines; a line may consist of several records.
    private func last(_ reader: inout LogReader) throws -> ArraySlice<LogRecord> {
        let all = try drain(&reader)
        guard let tail else { return all[...] }
        var lines = 0
        var start = all.endIndex
        while start > all.startIndex {
            if all[start - 1].isWhole || start == all.endIndex { lines += 1 }
            if lines > tail { break }
            start -= 1
        }
        return all[start...]
    }

    private func show(_ records: some Sequence<LogRecord>) throws {
        for record in records {
            let prefix = timestamps ? Array("\(record.time) ".utf8) : []
            try LogsCommand.write(prefix + record.output, to: record.stream == .stdout ? 1 : 2)
        }
    }

    private func showConsole(_ directory: GroupDirectory) throws {
        let file = try OwnedDescriptor.open(directory.consolePath, 0)
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = clinux_read(file.rawValue, &chunk, chunk.count)
            guard count > 0 else { return }
            try LogsCommand.write(Array(chunk[..<count]), to: 1)
        }
    }

    private static func write(_ bytes: [UInt8], to descriptor: Int32) throws {
        var start = 0
        while start < bytes.count {
            let count = bytes.withUnsafeBytes { clinux_write(descriptor, $0.baseAddress.map { $0 + start }, $0.count - start) }
            guard count > 0 else { throw ExitCode(ExitCodes.failure) }
            start += count
        }
    }
}
