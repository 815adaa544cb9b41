/// A checkpoint as `history` shows it.
struct CheckpointSummary: Encodable {
    let number: UInt64
    /// RFC 3339.
    let time: String
    let name: String?
    /// How long the group stood still; nil for a checkpoint that was not taken of a running machine.
    let stopMicroseconds: Double?
    let pages: Int
    let newPages: Int
    let writtenBytes: Int
    var isDurable: Bool
    /// `STREAM@NUMBER` or `NUMBER` where it does not follow the checkpoint before it.
    let origin: String?
}

/// A stream as `ps -a` and `store inspect` show it.
struct StreamSummary: Encodable {
    let name: String
    let latestNumber: UInt64?
    let latestTime: String?
    let checkpoints: Int
}
