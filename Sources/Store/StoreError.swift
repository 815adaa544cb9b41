internal import CLinux
public import Linux

/// What can go wrong with a store: what, where, and what to do about it.
public enum StoreError: Error, Hashable, Sendable {
    /// The disk failed.
    case disk(DiskError)
    /// Bytes are not what whoever refers to them expects.
    case damaged(Damage)
    /// There is no room for so many bytes.
    case full(store: String, bytes: UInt64)
    /// This program cannot read it: a newer or unknown format.
    case unsupported(what: String, store: String, reason: String)
    /// No stream has the name.
    case noStream(String)
    /// A stream has the name already.
    case streamExists(String)
    /// Another process (or another part of this one) writes the stream.
    case streamInUse(String)
    /// The stream has no such checkpoint.
    case noCheckpoint(stream: String, wanted: String)
    /// A checkpoint of the stream has the name already.
    case checkpointExists(stream: String, name: String)
    /// A checkpoint that must be kept.
    case checkpointProtected(stream: String, number: UInt64, reason: String)
    /// A value given by the caller does not fit.
    case invalid(what: String, reason: String)
    /// A write or flush failed before: nothing more is written until the stream is opened again.
    case writerBroken(stream: String, reason: String)
    /// Somebody else does something that excludes what was asked for.
    case busy(store: String, reason: String)
    /// A call to the system failed that is not about the disk itself.
    case system(SystemError)
    /// All slots are in use.
    case tooManyStreams(store: String, max: UInt32)

    /// Where bytes are wrong.
    public struct Damage: Hashable, Sendable {
        /// The kind of thing: "commit block", "table", "page".
        public var what: String
        /// The stream's name, where known.
        public var stream: String?
        /// The checkpoint's number, where known.
        public var number: UInt64?
        /// First byte on the disk, where there is one.
        public var offset: UInt64?
        /// What is wrong.
        public var reason: String

        /// Describes damage.
        public init(_ what: String, stream: String? = nil, number: UInt64? = nil, offset: UInt64? = nil, reason: String) {
            self.what = what
            self.stream = stream
            self.number = number
            self.offset = offset
            self.reason = reason
        }
    }

    /// Whether there was no room: nothing is wrong with what is there, and the same may succeed when some has been made.
    ///
    /// A flush that finds no room is none of these: what it should have made durable may be lost.
    public var isNoRoom: Bool {
        switch self {
        case .full: true
        case .disk(let error): error.operation == .write && Self.noSpaceCodes.contains(error.code)
        default: false
        }
    }

    /// Whether something that is there cannot be read: it is damaged, the disk fails to read it, or it is of a newer version.
    var isDamage: Bool {
        switch self {
        case .damaged, .unsupported: true
        case .disk(let error): error.operation == .read && error.code == EIO
        default: false
        }
    }

    /// Wraps a failed system call.
    init(_ error: SystemError) { self = .system(error) }

    /// Damage found by a layer that does not know the stream gets its name here.
    func inStream(_ name: String, number: UInt64? = nil) -> StoreError {
        guard case .damaged(var damage) = self else { return self }
        damage.stream = damage.stream ?? name
        damage.number = damage.number ?? number
        return .damaged(damage)
    }
}

extension StoreError: CustomStringConvertible {
    /// A sentence that says what failed, on what, and what can be done.
    public var description: String {
        switch self {
        case .disk(let error) where error.code == EFBIG && clinux_file_size_limit() >= 0:
            "\(error). This process may write files of at most \(clinux_file_size_limit()) bytes: raise that, or use a smaller store"
        case .disk(let error) where StoreError.noSpaceCodes.contains(error.code):
            "\(error). Free some: `aurora gc`, remove checkpoints or groups, or enlarge the disk"
        case .disk(let error): "\(error)"
        case .damaged(let damage): "\(damage)"
        case .full(let store, let bytes):
            "All segments of the store \(store) are in use: it has no room for \(bytes) more bytes, whatever its disk has. "
                + "Run `aurora gc`, drop checkpoints, or make a larger store"
        case .unsupported(let what, let store, let reason): "Cannot read \(what) of the store \(store): \(reason)"
        case .noStream(let name): "There is no stream \(name) in the store"
        case .streamExists(let name): "A stream \(name) exists already"
        case .streamInUse(let name): "The stream \(name) is being written by another process"
        case .noCheckpoint(let stream, let wanted): "\(stream) has no checkpoint \(wanted)"
        case .checkpointExists(let stream, let name): "\(stream) has a checkpoint \(name) already"
        case .checkpointProtected(let stream, let number, let reason): "Checkpoint \(number) of \(stream) is kept: \(reason)"
        case .invalid(let what, let reason): "Invalid \(what): \(reason)"
        case .writerBroken(let stream, let reason):
            "Nothing more is written to \(stream) until it is opened again; its last durable checkpoint is safe. Reason: \(reason)"
        case .busy(let store, let reason): "The store \(store) is busy: \(reason)"
        case .system(let error): "\(error)"
        case .tooManyStreams(let store, let max): "The store \(store) has room for \(max) streams. Remove some"
        }
    }

    /// The disk is full, the user's share of it is used up, or the process may not write files of that size.
    private static let noSpaceCodes: Set<Int32> = [ENOSPC, EDQUOT, EFBIG]
}

extension StoreError.Damage: CustomStringConvertible {
    /// "Damaged WHAT of STREAM, checkpoint N, at byte O: reason".
    public var description: String {
        var text = "Damaged \(what)"
        if let stream { text += " of \(stream)" }
        if let number { text += ", checkpoint \(number)" }
        if let offset { text += ", at byte \(offset)" }
        return text + ": \(reason)"
    }
}
