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

    private let path: String
    private let fileBytesMax: Int
    private var file: OwnedDescriptor
    private var fileBytes = 0
    private var hasFailed = false

    /// Opens a log for appending.
    ///
    /// - Throws: `SystemError` with the path.
    public init(path: String, fileBytesMax: Int = LogWriter.fileBytesMaxDefault) throws(SystemError) {
        self.path = path
        self.fileBytesMax = fileBytesMax
        file = try OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_APPEND)
        fileBytes = max(0, Int(clinux_file_bytes(path)))
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
        do throws(SystemError) {
            try DescriptorIO.writeAll(lines, to: file.rawValue, what: path)
            fileBytes += lines.count
            hasFailed = false
        } catch {
            if !hasFailed { EngineLog.write("\(error); output is lost until there is room") }
            hasFailed = true
        }
    }

    private mutating func rotate() {
        _ = clinux_rename(path, "\(path).1")
        guard let new = try? OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_APPEND) else { return }
        file = new
        fileBytes = 0
    }
}
