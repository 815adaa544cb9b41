/// Turns records back into what the program wrote, with the time before each line if wanted.
public struct LogText: Sendable {
    private let showsTimes: Bool
    /// Streams whose last record was a part of a line, which the next one goes on with.
    private var unfinished: Set<LogRecord.Stream> = []

    /// Starts at the beginning of lines.
    public init(showsTimes: Bool) { self.showsTimes = showsTimes }

    /// The bytes for each stream, in order; what goes to the same stream is joined.
    public mutating func text(_ records: some Sequence<LogRecord>) -> [(stream: LogRecord.Stream, bytes: [UInt8])] {
        var pieces: [(stream: LogRecord.Stream, bytes: [UInt8])] = []
        for record in records {
            if pieces.last?.stream != record.stream { pieces.append((record.stream, [])) }
            let last = pieces.count - 1
            // A line has one time, that of its first part.
            if showsTimes, !unfinished.contains(record.stream) { pieces[last].bytes += Array("\(record.time) ".utf8) }
            pieces[last].bytes += record.content
            if record.isWhole {
                pieces[last].bytes.append(UInt8(ascii: "\n"))
                unfinished.remove(record.stream)
            } else {
                unfinished.insert(record.stream)
            }
        }
        return pieces
    }
}
