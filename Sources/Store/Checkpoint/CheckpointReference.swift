/// Names a checkpoint for good: streams can be renamed.
public struct CheckpointReference: Hashable, Sendable {
    /// The stream.
    public var stream: StreamIdentity
    /// The epoch's number.
    public var number: UInt64

    /// Names a checkpoint.
    public init(stream: StreamIdentity, number: UInt64) {
        self.stream = stream
        self.number = number
    }
}

/// Which checkpoint of a stream is meant.
public enum CheckpointSelector: Hashable, Sendable, CustomStringConvertible {
    /// The newest.
    case latest
    /// The one with a number.
    case number(UInt64)
    /// The one with a name.
    case name(String)
    /// The newest made at a time (nanoseconds since 1970) or before.
    case notAfter(UInt64)

    /// As a user would say it.
    public var description: String {
        switch self {
        case .latest: "at all"
        case .number(let number): "number \(number)"
        case .name(let name): "named \(name)"
        case .notAfter(let time): "made before \(time / 1_000_000_000) s after 1970"
        }
    }
}

/// A stored page of a checkpoint.
public struct PageReference: Hashable, Sendable {
    let entry: TreeEntry

    init(_ entry: TreeEntry) { self.entry = entry }

    /// Which page.
    public var key: PageKey { PageKey(rawValue: entry.key) }
    /// Of its 4096 bytes.
    public var checksum: Checksum { entry.checksum }
    /// Where it is stored: equal for pages that are shared.
    public var location: PageLocation { entry.location }
}
