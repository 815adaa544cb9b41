public import Linux

/// Reads a group's log from its oldest kept line on, and goes on through rotations while it grows.
public struct LogReader: ~Copyable {
    private let files: LogFiles
    private var file: LogFiles.OpenFile?
    /// Files that follow the one being read, already open: they cannot be lost any more.
    ///
    /// What is open takes its room on the disk though it was rotated away, so there is a bound.
    private var successors: [LogFiles.OpenFile] = []
    private var partial: [UInt8] = []
    private static let chunkBytes = 1 << 18
    private static let successorsMax = 8
    /// A line without end that is longer than any record is not of this log.
    private static let partialBytesMax = 1 << 17

    /// Files that were rotated away before this reader came to them; their lines are missing in what `next` gave.
    public private(set) var lostFiles: UInt64 = 0

    /// Starts at the beginning of a log, which need not exist yet.
    public init(path: String) { files = LogFiles(path: path) }

    /// The records that were written since the last call, in the file's order; empty when there are no new ones.
    ///
    /// - Throws: `SystemError` when the file is there but cannot be read.
    public mutating func next() throws(SystemError) -> [LogRecord] {
        while true {
            // Asked before reading: what a file holds that was rotated away is then read to its end.
            let isLast = try !findSuccessor()
            let records = try readRecords()
            if !records.isEmpty { return records }
            if isLast { return [] }
            let rest = takeRest()
            file = successors.removeFirst()
            if !rest.isEmpty { return rest }
        }
    }

    /// Opens what follows the file being read; false when nothing does.
    private mutating func findSuccessor() throws(SystemError) -> Bool {
        let last = successors.last ?? file
        let isBehind = last.map { !files.isCurrent($0) } ?? true
        if isBehind, successors.count < LogReader.successorsMax { try openFiles(after: last) }
        return !successors.isEmpty
    }

    private mutating func openFiles(after last: LogFiles.OpenFile?) throws(SystemError) {
        guard let found = try files.open(), found.current.identity != last?.identity else { return }
        if let former = found.former, former.identity != last?.identity {
            if let last, former.number > last.number &+ 1 { lostFiles += former.number - last.number - 1 }
            successors.append(former)
        }
        successors.append(found.current)
    }

    private mutating func readRecords() throws(SystemError) -> [LogRecord] {
        guard let number = file?.descriptor.rawValue else { return [] }
        var chunk = [UInt8](repeating: 0, count: LogReader.chunkBytes)
        while true {
            let count = try DescriptorIO.read(number, into: &chunk, what: files.path)
            if count == 0 { return [] }
            partial += chunk[..<count]
            let records = takeLines()
            if !records.isEmpty { return records }
        }
    }

    private mutating func takeLines() -> [LogRecord] {
        guard let last = partial.lastIndex(of: UInt8(ascii: "\n")) else {
            if partial.count > LogReader.partialBytesMax { partial = [] }
            return []
        }
        let lines = partial[...last].split(separator: UInt8(ascii: "\n"))
        partial = Array(partial[(last + 1)...])
        return lines.compactMap { LogRecord(line: $0) }
    }

    /// What a file ends with that is no whole record, from a writer that was killed or had no room.
    private mutating func takeRest() -> [LogRecord] {
        defer { partial = [] }
        return [LogRecord(line: partial)].compactMap { $0 }
    }
}
