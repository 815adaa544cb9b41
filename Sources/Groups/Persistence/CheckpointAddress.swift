/// A checkpoint somewhere in the store.
public struct CheckpointAddress: Sendable, Hashable, Codable, CustomStringConvertible {
    /// The store's stream, for example `group/web`.
    public var stream: String
    /// The checkpoint's number in it.
    public var number: UInt64

    /// Names a checkpoint.
    public init(stream: String, number: UInt64) {
        self.stream = stream
        self.number = number
    }

    /// Reads `STREAM@NUMBER`; nil for anything else.
    public init?(parsing text: String) {
        guard let mark = text.lastIndex(of: "@"), let number = UInt64(text[text.index(after: mark)...]), mark > text.startIndex else {
            return nil
        }
        self.init(stream: String(text[..<mark]), number: number)
    }

    /// `STREAM@NUMBER`.
    public var description: String { "\(stream)@\(number)" }
}
