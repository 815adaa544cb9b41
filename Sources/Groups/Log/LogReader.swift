internal import CLinux
public import Linux

/// Reads a group's log from its oldest kept line on, and goes on through rotations while it grows.
public struct LogReader: ~Copyable {
    private let path: String
    private var file: OpenFile?
    private var partial: [UInt8] = []
    private var isPastOldFile = false
    private static let chunkBytes = 65536

    /// An optional owner cannot be looked into without being consumed, a class can.
    private final class OpenFile {
        let descriptor: OwnedDescriptor
        init(descriptor: consuming OwnedDescriptor) { self.descriptor = descriptor }
    }

    /// Starts at the beginning of a log, which need not exist yet.
    public init(path: String) { self.path = path }

    /// The records that were written since the last call, in the file's order; empty when there are no new ones.
    ///
    /// - Throws: `SystemError` when the file is there but cannot be read.
    public mutating func next() throws(SystemError) -> [LogRecord] {
        if !isPastOldFile {
            isPastOldFile = true
            file = try LogReader.open("\(path).1")
            let old = try readRecords()
            if !old.isEmpty { return old }
        }
        if file == nil { file = try LogReader.open(path) }
        let records = try readRecords()
        if !records.isEmpty || isCurrent { return records }
        // The file was rotated away and is read to its end: go on with its successor.
        file = try LogReader.open(path)
        return try readRecords()
    }

    private var isCurrent: Bool {
        guard let number = file?.descriptor.rawValue else { return false }
        return clinux_file_identity(number) == clinux_path_identity(path)
    }

    private static func open(_ path: String) throws(SystemError) -> OpenFile? {
        let result = clinux_open(path, O_RDONLY | O_CLOEXEC, 0)
        if result == -Int(ENOENT) { return nil }
        return OpenFile(descriptor: OwnedDescriptor(adopting: Int32(try systemCall("open", path) { Int(result) })))
    }

    private mutating func readRecords() throws(SystemError) -> [LogRecord] {
        guard let number = file?.descriptor.rawValue else { return [] }
        var chunk = [UInt8](repeating: 0, count: LogReader.chunkBytes)
        var records: [LogRecord] = []
        while true {
            let count = try DescriptorIO.read(number, into: &chunk, what: path)
            if count == 0 { return records }
            partial += chunk[..<count]
            records += takeLines()
            if !records.isEmpty { return records }
        }
    }

    private mutating func takeLines() -> [LogRecord] {
        guard let last = partial.lastIndex(of: UInt8(ascii: "\n")) else {
            // A line without end that is longer than any record is not of this log.
            if partial.count > 2 * LogReader.chunkBytes { partial = [] }
            return []
        }
        let lines = partial[...last].split(separator: UInt8(ascii: "\n"))
        partial = Array(partial[(last + 1)...])
        return lines.compactMap { LogRecord(line: $0) }
    }
}
