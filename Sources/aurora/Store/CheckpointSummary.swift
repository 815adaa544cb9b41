/// A checkpoint as `history` shows it.
struct CheckpointSummary: Encodable {
    let number: UInt64
    /// RFC 3339.
    let time: String
    let name: String?
    /// How long the group stood still; nil for a checkpoint that was not taken of a running machine.
    let stopMicroseconds: Double?
    /// Its parts (Table 3 of the paper).
    let parts: StopParts?
    /// Pages of memory that were copied in the stop.
    let pagesInStop: Int?
    /// Copying while the group ran, in microseconds.
    let preCopyMicroseconds: Int?
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

/// Parts of a stop, in microseconds.
struct StopParts: Encodable {
    let pause: Double
    let copy: Double
    let state: Double
    let volumes: Double
    let resume: Double

    /// Nil when there are not as many as there should be.
    init?(nanoseconds parts: [UInt32]) {
        guard parts.count == 5 else { return nil }
        let values = parts.map { Double($0) / 1000 }
        (pause, copy, state, volumes, resume) = (values[0], values[1], values[2], values[3], values[4])
    }
}
