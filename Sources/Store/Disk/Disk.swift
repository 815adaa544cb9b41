internal import Linux

/// What a store lives on: a file, a block device, or a simulation of one.
///
/// Offsets and lengths are bytes. Calls may come from several threads at once. What was written before a `flush()` began is durable when
/// it returns; anything else may be lost, torn at 512 bytes or reordered by a power cut.
public protocol Disk: AnyObject, Sendable {
    /// What error messages call it: a path.
    var name: String { get }
    /// Size in bytes.
    var byteCount: UInt64 { get }
    /// Whether the first write of a block costs more than later ones, since room for it must be found.
    var isSparse: Bool { get }
    /// Whether it can only be read.
    var isReadOnly: Bool { get }
    /// What tells it from all other files and devices of this host; nil where nothing does.
    var place: DiskPlace? { get }
    /// Whether a write gains by going on while its caller does other things.
    ///
    /// False where the order of operations must be the same each time.
    var isConcurrent: Bool { get }
    /// Fills the buffer; bytes never written read as zeros.
    ///
    /// - Throws: `DiskError`, also when fewer bytes are there.
    func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(DiskError)
    /// Fills the buffer, whole blocks, with what a power cut would leave: what readers see but a failed write-back has kept from the disk
    /// is not among it.
    ///
    /// Where nothing lies between readers and disk, or nobody can tell, as `read`.
    ///
    /// - Throws: `DiskError`, also when what is on its way cannot be written.
    func readPastCache(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(DiskError)
    /// Writes all parts one after the other, from `offset` on.
    ///
    /// - Throws: `DiskError`; then any part of the bytes may have been written.
    func write(_ parts: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError)
    /// Writes all parts, whole blocks that nobody will read soon: where that works, no memory is taken to keep them for readers.
    ///
    /// - Throws: `DiskError`; then any part of the bytes may have been written.
    func writePastCache(_ parts: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError)
    /// Writes all parts, and returns when they survive a power cut; says nothing about other writes.
    ///
    /// - Throws: `DiskError`; then any part of the bytes may have been written.
    func writeDurably(_ parts: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError)
    /// Returns when all writes that completed before the call survive a power cut.
    ///
    /// Whoever answers for what was written flushes through a `DiskFlusher` of its own: a failure is told once.
    ///
    /// - Throws: `DiskError`; then nothing is known about them, and the caller must not write on as if they were there.
    func flush() throws(DiskError)
    /// Opens the disk once more, to flush it.
    ///
    /// - Throws: `DiskError`.
    func openFlusher() throws(DiskError) -> any DiskFlusher
    /// The first byte from `offset` on that may be other than zero, `UInt64.max` when all that follows is zero: at
    /// most a guess that is too early.
    func firstData(from offset: UInt64) -> UInt64
    /// The range is not needed any more: it may read as zeros or as anything, and its space may be freed.
    ///
    /// - Throws: `DiskError`.
    func discard(at offset: UInt64, count: UInt64) throws(DiskError)
    /// Takes a lock that other openers of the disk see too, in this process and in others; it ends with its owner.
    ///
    /// - Parameter wait: false to return nil when somebody else holds it.
    /// - Throws: `DiskError`.
    func lock(_ range: DiskLock, exclusive: Bool, wait: Bool) throws(DiskError) -> (any DiskLockHandle)?
    /// Whether anybody holds a lock that keeps others from sharing this one.
    ///
    /// - Throws: `DiskError`.
    func isLocked(_ range: DiskLock) throws(DiskError) -> Bool
}

extension Disk {
    /// A disk costs the same everywhere unless it says otherwise.
    public var isSparse: Bool { false }
    /// A disk can be written unless it says otherwise.
    public var isReadOnly: Bool { false }
    /// A disk is known by nothing but its identity unless it says otherwise.
    public var place: DiskPlace? { nil }
    /// A disk is used by one thread at a time unless it says otherwise.
    public var isConcurrent: Bool { false }
    /// A disk without a cache writes as ever.
    public func writePastCache(_ parts: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError) { try write(parts, at: offset) }
    /// A disk without a cache reads as ever.
    public func readPastCache(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(DiskError) {
        try read(at: offset, into: buffer)
    }
    /// A disk that cannot tell has data everywhere.
    public func firstData(from offset: UInt64) -> UInt64 { offset }
}

/// An open file of its own through which a disk is flushed.
///
/// Linux reports a failed write-back once to each open file (errseq_t): whoever flushes next through the same one is told that all is
/// well. So everyone who answers for writes has one, opened before the first of them.
public protocol DiskFlusher: AnyObject, Sendable {
    /// As `Disk.flush`.
    ///
    /// - Throws: `DiskError`, also when a write that completed since the last call through this flusher (or since it was opened) failed
    ///   on its way to the disk, whoever else has been told.
    func flush() throws(DiskError)
}

/// Where a disk is: a file of a file system, or a device.
public struct DiskPlace: Hashable, Sendable {
    /// The number of the device that it lies on, or that it is.
    public var device: UInt64
    /// The file's number there; 0 for a device.
    public var inode: UInt64
    /// When the file was made, in nanoseconds since 1970, 0 where nobody knows: numbers of removed files are given again.
    public var birth: UInt64

    /// Names a place.
    public init(device: UInt64, inode: UInt64, birth: UInt64) {
        self.device = device
        self.inode = inode
        self.birth = birth
    }
}

/// A held lock; released when the last reference goes away.
public protocol DiskLockHandle: AnyObject, Sendable {}

/// A failed operation on a disk.
public struct DiskError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What was tried.
    public enum Operation: String, Sendable { case open, create, read, write, flush, discard, lock }
    /// What was tried.
    public let operation: Operation
    /// The disk's name.
    public let disk: String
    /// First byte of the range, where there is one.
    public let offset: UInt64?
    /// The reason as Linux gives it (`errno`); 0 for a short read or write.
    public let code: Int32

    /// Makes an error.
    public init(_ operation: Operation, _ disk: String, offset: UInt64? = nil, code: Int32) {
        self.operation = operation
        self.disk = disk
        self.offset = offset
        self.code = code
    }

    /// "Cannot write PATH at byte N: reason".
    public var description: String {
        let place = offset.map { " at byte \($0)" } ?? ""
        let reason = code == 0 ? "it is too short" : Errno(rawValue: code).description
        return "Cannot \(operation.rawValue) \(disk)\(place): \(reason)"
    }
}
