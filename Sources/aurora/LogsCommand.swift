import ArgumentParser
import CLinux
import Groups
import Linux

/// `aurora logs`: what a group's program wrote.
struct LogsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "logs", abstract: "Show what a group's program wrote, to the same streams.",
        discussion: """
            Kept are the latest 16 to 32 MiB, times and ends of lines included. With --follow the command ends when the group does: \
            with 0, or with \(ExitCodes.resumable) when its VMM process died and the group can go on with aurora restore.
            """)

    @Flag(name: .shortAndLong, help: "Go on until the group ends.")
    var follow = false

    @Option(name: [.customShort("n"), .long], parsing: .unconditional, help: "Show only the last lines.")
    var tail: Int?

    @Flag(name: [.customShort("T"), .long], help: "Begin every line with the time it was received.")
    var timestamps = false

    @Flag(help: "Show the guest's console instead.")
    var console = false

    @Argument(help: "The group's name.") var name: String

    private static let pollMilliseconds: UInt32 = 50

    func validate() throws {
        if let tail, tail < 0 { throw ValidationError("--tail must be 0 or more lines.") }
    }

    func run() throws {
        let directory = try CommandContext.group(name)
        if console { return try showConsole(directory) }
        var reader = LogReader(path: directory.logPath)
        var text = LogText(showsTimes: timestamps)
        var lost: UInt64 = 0
        if let tail {
            try show(try LogsCommand.last(tail, &reader), &text)
            lost = reader.lostFiles
        }
        while true {
            // The end is asked for before the log is read: what came before it is then shown in any case.
            let isLive = try directory.isLive()
            var isNew = false
            while true {
                let records = try reader.next()
                LogsCommand.tellLost(reader.lostFiles, &lost)
                if records.isEmpty { break }
                isNew = true
                try show(records, &text)
            }
            if !follow { return }
            if !isLive { return try tellEnd(directory) }
            if !isNew { usleep(LogsCommand.pollMilliseconds * 1000) }
        }
    }

    /// The records of the last lines; a line may consist of several records.
    private static func last(_ count: Int, _ reader: inout LogReader) throws -> ArraySlice<LogRecord> {
        var all: [LogRecord] = []
        while true {
            let records = try reader.next()
            if records.isEmpty { break }
            all += records
        }
        var lines = 0
        var start = all.endIndex
        while start > all.startIndex {
            if all[start - 1].isWhole || start == all.endIndex { lines += 1 }
            if lines > count { break }
            start -= 1
        }
        return all[start...]
    }

    private func show(_ records: some Sequence<LogRecord>, _ text: inout LogText) throws {
        for (stream, bytes) in text.text(records) { try LogsCommand.write(bytes, to: stream == .stdout ? 1 : 2) }
    }

    private static func tellLost(_ found: UInt64, _ told: inout UInt64) {
        guard found > told else { return }
        let size = MemorySize.format(LogWriter.fileBytesMaxDefault)
        Terminal.writeError(
            "warning: lines are missing here: the program wrote faster than they were read, "
                + "and \(found - told) of the log's files, \(size) each, were replaced meanwhile\n")
        told = found
    }

    /// A group whose process died may not have ended: who follows it in a script wants to know.
    private func tellEnd(_ directory: GroupDirectory) throws {
        let status = try directory.status()
        guard status.state == .dead else { return }
        let isPersisted = try directory.configuration().persistence != nil || status.backends?.contains(.store) ?? false
        let remedy = isPersisted ? "It can go on with: aurora restore \(name)" : "It had no checkpoints."
        Terminal.writeError("warning: Group \(name) has died: \(status.error ?? "nobody knows why")\n\(remedy)\n")
        throw ExitCode(isPersisted ? ExitCodes.resumable : ExitCodes.failure)
    }

    /// The console is the guest's, not the program's: it does not steer the terminal.
    private func showConsole(_ directory: GroupDirectory) throws {
        let bytes: [UInt8]
        do throws(SystemError) {
            bytes = try DurableFile.read(directory.consolePath, bytesMax: GroupDirectory.consoleBytesMax) ?? []
        } catch { throw GroupError(.host, "\(error)") }
        try LogsCommand.write(Terminal.isTerminal(1) ? Array(String(decoding: bytes, as: UTF8.self).visible.utf8) : bytes, to: 1)
    }

    private static func write(_ bytes: [UInt8], to descriptor: Int32) throws {
        do throws(SystemError) {
            try DescriptorIO.writeAll(bytes, to: descriptor, what: "output")
        } catch { throw ExitCode(ExitCodes.failure) }
    }
}
