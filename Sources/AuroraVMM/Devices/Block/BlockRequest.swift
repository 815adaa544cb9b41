/// Layout and codes of a block request (virtio 1.2, section 5.2.6).
enum BlockRequest {
    static let headerBytes = 16
    static let sectorBytes: Int64 = 512
    static let identifierBytes = 20
    /// Bytes of one discard or write-zeroes segment.
    static let segmentBytes = 16
    /// Segments accepted in one discard or write-zeroes request.
    static let segmentsMax = 32
    /// Sectors of one such segment, at most.
    static let segmentSectorsMax: UInt32 = 1 << 22
    static let unmapFlag: UInt32 = 1
    /// Bytes of a discard or write-zeroes request carried out at once, and how many cost as much as one that is copied.
    static let pieceBytes: Int64 = 32 << 20
    static let clearedByteShare = 16

    enum Kind: UInt32 {
        case read = 0
        case write = 1
        case flush = 4
        case identify = 8
        case discard = 11
        case writeZeroes = 13
    }

    enum Status: UInt8 {
        case ok = 0
        case failed = 1
        case unsupported = 2
    }
}

/// Feature bits of a block device (virtio 1.2, section 5.2.3).
enum BlockFeature {
    static let segmentsMax: UInt64 = 1 << 2
    static let readOnly: UInt64 = 1 << 5
    static let blockSize: UInt64 = 1 << 6
    static let flush: UInt64 = 1 << 9
    static let topology: UInt64 = 1 << 10
    static let discard: UInt64 = 1 << 13
    static let writeZeroes: UInt64 = 1 << 14
}

/// What must be the same when the state of a block device is loaded: a file system would not survive another disk.
public struct BlockState: Codable, Equatable, Sendable {
    /// Size of the disk in bytes.
    public var byteCount: Int64
    /// Whether the disk is read-only.
    public var isReadOnly: Bool
    /// The serial number shown to the guest.
    public var serial: String
}

/// What a block device has done since it was made.
public struct BlockCounters: Equatable, Sendable {
    /// Read requests.
    public var reads = 0
    /// Write requests.
    public var writes = 0
    /// Flush requests.
    public var flushes = 0
    /// Bytes read.
    public var bytesRead = 0
    /// Bytes written.
    public var bytesWritten = 0
    /// Requests answered with an error.
    public var failures = 0
}
