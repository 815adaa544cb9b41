/// One line of a group's log, in the format of Kubernetes' container runtime interface, which log shippers read:
/// `TIME STREAM TAG CONTENT`, the tag `F` for a whole line and `P` for a part of one.
public struct LogRecord: Sendable, Hashable {
    /// Where the program wrote to.
    public enum Stream: String, Sendable, Hashable {
        case stdout
        case stderr
    }

    /// When it was received.
    public var time: String
    /// Where the program wrote to.
    public var stream: Stream
    /// Whether the line ends here; the rest of a partial line follows in a later record of the same stream.
    public var isWhole: Bool
    /// The bytes without the line's end.
    public var content: [UInt8]

    /// Describes a record.
    public init(time: String, stream: Stream, isWhole: Bool, content: [UInt8]) {
        self.time = time
        self.stream = stream
        self.isWhole = isWhole
        self.content = content
    }

    /// The record as a line of the file, its end included.
    public var line: [UInt8] { Array("\(time) \(stream.rawValue) \(isWhole ? "F" : "P") ".utf8) + content + [UInt8(ascii: "\n")] }

    /// Takes apart a line of the file, given without its end; nil when it is not of this format.
    public init?<Line: Collection<UInt8>>(line: Line) {
        var rest = line[...]
        func word() -> Line.SubSequence? {
            guard let end = rest.firstIndex(of: UInt8(ascii: " ")) else { return nil }
            defer { rest = rest[rest.index(after: end)...] }
            return rest[..<end]
        }
        guard let time = word(), let stream = word(), let tag = word() else { return nil }
        if stream.elementsEqual("stdout".utf8) {
            self.stream = .stdout
        } else if stream.elementsEqual("stderr".utf8) {
            self.stream = .stderr
        } else {
            return nil
        }
        guard tag.elementsEqual("F".utf8) || tag.elementsEqual("P".utf8) else { return nil }
        isWhole = tag.elementsEqual("F".utf8)
        self.time = String(decoding: time, as: UTF8.self)
        content = Array(rest)
    }

    /// What the program wrote: the content and, for a whole line, its end.
    public var output: [UInt8] { isWhole ? content + [UInt8(ascii: "\n")] : content }
}
