internal import CLinux
public import Linux

/// Appends a program's output to the group's log; bounded by one rotation to `output.log.1`.
///
/// Not safe for use by two threads at once: the owner's event loop is the only caller.
public struct LogWriter: ~Copyable, Sendable {
    /// The log and its predecessor are at most this long each, in bytes.
    public static let fileBytesMaxDefault = 16 << 20
    /// A line longer than this is split over records.
    static let recordBytesMax = 16384

    private let files: LogFiles
    private let fileBytesMax: Int
    private var file: OwnedDescriptor
    private var fileBytes = 0
    private var hasFailed = false
    /// Whether the file may end within a record: the next one begins with an end of line.
    private var isTorn = false

    /// Opens a log for appending.
    ///
    /// - Throws: `SystemError` with the path.
    public init(path: String, fileBytesMax: Int = LogWriter.fileBytesMaxDefault) throws(SystemError) {
        files = LogFiles(path: path)
        self.fileBytesMax = fileBytesMax
        file = try OwnedDescriptor.open(path, O_RDWR | O_CREAT | O_APPEND)
        fileBytes = max(0, Int(clinux_file_bytes(path)))
        isTorn = LogWriter.endsWithinARecord(file.rawValue, fileBytes)
    }

    /// A writer that was killed, or had no room, may have left half a record.
    private static func endsWithinARecord(_ descriptor: Int32, _ bytes: Int) -> Bool {
        guard bytes > 0 else { return false }
        var last: UInt8 = 0
        return clinux_pread(descriptor, &last, 1, Int64(bytes - 1)) == 1 && last != UInt8(ascii: "\n")
    }

    /// Adds output.
    ///
    /// A disk that is full loses log lines, never the program's run.
    public mutating func append(_ bytes: some Collection<UInt8>, stream: LogRecord.Stream, time: String = Timestamp.now()) {
        var lines: [UInt8] = []
        var rest = bytes[...]
        while !rest.isEmpty {
            let window = rest.prefix(LogWriter.recordBytesMax)
            if let end = window.firstIndex(of: UInt8(ascii: "\n")) {
                lines += LogRecord(time: time, stream: stream, isWhole: true, content: Array(rest[rest.startIndex..<end])).line
                rest = rest[rest.index(after: end)...]
            } else {
                lines += LogRecord(time: time, stream: stream, isWhole: false, content: Array(window)).line
                rest = rest.dropFirst(window.count)
            }
        }
        write(lines)
    }

    private mutating func write(_ lines: [UInt8]) {
        if fileBytes > 0, fileBytes + lines.count > fileBytesMax { rotate() }
        let bytes = isTorn ? [UInt8(ascii: "\n")] + lines : lines
        do throws(SystemError) {
            try DescriptorIO.writeAll(bytes, to: file.rawValue, what: files.path)
            fileBytes += bytes.count
            (hasFailed, isTorn) = (false, false)
        } catch {
            if !hasFailed { EngineLog.write("\(error); output is lost until there is room") }
            hasFailed = true
            fileBytes = max(0, Int(clinux_file_bytes(files.path)))
            isTorn = LogWriter.endsWithinARecord(file.rawValue, fileBytes)
        }
    }

    private mutating func rotate() {
        files.rotate()
        guard let new = try? OwnedDescriptor.open(files.path, O_RDWR | O_CREAT | O_APPEND) else { return }
        file = new
        fileBytes = 0
        isTorn = false
    }
}
