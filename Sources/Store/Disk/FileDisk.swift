internal import CLinux
internal import Linux
internal import Synchronization

/// A store's disk in a regular file or on a block device.
///
/// Written through io_uring where the kernel lets us, else by `pwritev`; both go through the page cache, which all processes share. What
/// is too large to be kept there goes past it (`O_DIRECT`), where the file system has such a thing.
public final class FileDisk: Disk {
    /// The path it was opened by.
    public let name: String
    /// Size in bytes, as it was when it was opened.
    public let byteCount: UInt64
    /// Whether it is a block device rather than a file.
    public let isBlockDevice: Bool
    /// A file begins as a hole.
    public var isSparse: Bool { !isBlockDevice }
    /// The kernel takes any number of writes at once.
    public var isConcurrent: Bool { true }
    /// Whether it was opened for reading only.
    public let isReadOnly: Bool
    /// What tells the file from others, a copy of it among them.
    public let place: DiskPlace?
    /// Why writes do not go through io_uring; nil when they do, at least as long as it works.
    public let ringRefusal: String?

    private let descriptor: OwnedDescriptor
    private let ring: Mutex<WriteRing?>
    /// Descriptors of open files of their own, kept for the next locks.
    private let lockDescriptors = Mutex<[Int32]>([])
    private let direct = Mutex(DirectFile.untried)
    private static let spareLocksMax = 8
    /// Writes of this size are not the last ones before a flush.
    private static let writeBackBytesMin: UInt64 = 1 << 20

    private init(_ path: String, _ descriptor: consuming OwnedDescriptor, readOnly: Bool, useRing: Bool) throws(DiskError) {
        name = path
        isReadOnly = readOnly
        let found = try Self.measure(descriptor.rawValue, path)
        (byteCount, isBlockDevice, place) = (found.byteCount, found.isBlockDevice, found.place)
        var refusal: String?
        if readOnly || !useRing {
            refusal = readOnly ? "it is opened for reading only" : "it is switched off"
            ring = Mutex(nil)
        } else {
            do throws(Errno) { ring = Mutex(try WriteRing()) } catch {
                refusal = error.description
                ring = Mutex(nil)
            }
        }
        ringRefusal = refusal
        self.descriptor = descriptor
    }

    deinit {
        lockDescriptors.withLock { for number in $0 { _ = close(number) } }
        if let number = direct.withLock({ $0.descriptor }) { _ = close(number) }
    }

    /// Opens an existing file or block device.
    ///
    /// - Parameter useRing: false to write by `pwritev` even where io_uring works.
    /// - Throws: `DiskError` when it is not there, may not be opened, or is neither.
    public static func open(_ path: String, readOnly: Bool = false, useRing: Bool = true) throws(DiskError) -> FileDisk {
        let result = clinux_open(path, (readOnly ? O_RDONLY : O_RDWR) | O_CLOEXEC, 0)
        guard result >= 0 else { throw DiskError(.open, path, code: Int32(truncatingIfNeeded: -result)) }
        let descriptor = OwnedDescriptor(adopting: Int32(truncatingIfNeeded: result))
        return try FileDisk(path, descriptor, readOnly: readOnly, useRing: useRing)
    }

    /// Makes a new sparse file, for this user only; its entry in the directory is durable when this returns.
    ///
    /// - Throws: `DiskError`, also when there is one.
    public static func create(_ path: String, byteCount: UInt64) throws(DiskError) -> FileDisk {
        do throws(SystemError) {
            let descriptor = try OwnedDescriptor.open(path, O_RDWR | O_CREAT | O_EXCL, mode: 0o600)
            let number = descriptor.rawValue
            try systemCall("enlarge", path) { clinux_ftruncate(number, Int64(clamping: byteCount)) }
            try systemCall("flush", path) { clinux_fsync(number) }
            let parent = path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
            let directory = try OwnedDescriptor.open(parent, O_RDONLY | O_DIRECTORY)
            let directoryNumber = directory.rawValue
            try systemCall("flush", parent) { clinux_fsync(directoryNumber) }
        } catch {
            throw DiskError(.create, path, code: error.errno.rawValue)
        }
        return try open(path)
    }

    /// Where a path leads to, now; nil when there is neither file nor device.
    static func place(of path: String) -> DiskPlace? {
        let result = clinux_open(path, O_PATH | O_CLOEXEC, 0)
        guard result >= 0 else { return nil }
        let descriptor = OwnedDescriptor(adopting: Int32(truncatingIfNeeded: result))
        var status = stat()
        guard clinux_fstat(descriptor.rawValue, &status) >= 0 else { return nil }
        switch Int32(bitPattern: status.st_mode) & S_IFMT {
        case S_IFREG: return Self.place(status, descriptor.rawValue)
        case S_IFBLK: return DiskPlace(device: UInt64(status.st_rdev), inode: 0, birth: 0)
        default: return nil
        }
    }

    private static func place(_ status: stat, _ number: Int32) -> DiskPlace {
        DiskPlace(device: UInt64(status.st_dev), inode: UInt64(status.st_ino), birth: UInt64(clamping: clinux_birth_ns(number)))
    }

    /// A path from the root on, without links; nil when it leads nowhere.
    static func absolute(_ path: String) -> String? {
        guard let found = realpath(path, nil) else { return nil }
        defer { free(found) }
        return String(cString: found)
    }

    private static func measure(
        _ number: Int32, _ path: String
    ) throws(DiskError) -> (byteCount: UInt64, isBlockDevice: Bool, place: DiskPlace) {
        var status = stat()
        let result = clinux_fstat(number, &status)
        guard result >= 0 else { throw DiskError(.open, path, code: Int32(-result)) }
        switch Int32(bitPattern: status.st_mode) & S_IFMT {
        case S_IFREG: return (UInt64(clamping: status.st_size), false, place(status, number))
        case S_IFBLK:
            var count: UInt64 = 0
            let size = withUnsafeMutablePointer(to: &count) { clinux_ioctl(number, CBLK_GETSIZE64, UInt(bitPattern: $0)) }
            guard size >= 0 else { throw DiskError(.open, path, code: Int32(-size)) }
            return (count, true, DiskPlace(device: UInt64(status.st_rdev), inode: 0, birth: 0))
        default: throw DiskError(.open, path, code: EINVAL)
        }
    }

    /// Asks the file system for the next byte outside of a hole (`SEEK_DATA` of lseek(2)).
    public func firstData(from offset: UInt64) -> UInt64 {
        let found = lseek(descriptor.rawValue, off_t(clamping: offset), SEEK_DATA)
        if found >= 0 { return max(offset, UInt64(found)) }
        // Beyond the last data; anything else means that the file system cannot tell.
        return clinux_errno() == ENXIO ? .max : offset
    }

    /// Reads by `pread`, as often as it takes.
    public func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(DiskError) {
        var done = 0
        while done < buffer.count {
            let position = Int64(clamping: offset) + Int64(done)
            let result = clinux_pread(descriptor.rawValue, buffer.baseAddress.map { $0 + done }, buffer.count - done, position)
            if result == -Int(EINTR) { continue }
            guard result > 0 else { throw DiskError(.read, name, offset: offset, code: Int32(truncatingIfNeeded: -result)) }
            done += result
        }
    }

    /// Writes through the ring unless another thread is using it, or there is none.
    public func write(_ parts: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError) {
        guard !isReadOnly else { throw DiskError(.write, name, offset: offset, code: EROFS) }
        let total = parts.reduce(UInt64(0)) { $0 + UInt64($1.count) }
        guard fits(parts, at: offset) else { throw DiskError(.write, name, offset: offset, code: ENOSPC) }
        var vectors = IOVectors(parts)
        let number = descriptor.rawValue
        let viaRing: Errno?? =
            ring.withLockIfAvailable { ring in
                guard ring != nil else { return .none }
                let failure = ring?.write(&vectors, to: number, at: offset)
                if ring?.isAbandoned == true { ring = nil }
                return .some(failure)
            } ?? .none
        let failure: Errno?
        switch viaRing {
        case .some(let result): failure = result
        case .none: failure = vectors.writePlainly(to: number, at: offset)
        }
        if let failure { throw DiskError(.write, name, offset: offset, code: failure.rawValue) }
        // The device begins while the next pages are prepared, so that the flush finds little to do; where that fails, it does it all.
        if total >= Self.writeBackBytesMin { _ = clinux_begin_write_back(number, Int64(clamping: offset), Int64(clamping: total)) }
    }

    /// A store never grows its file: beyond the end is a mistake of the caller, which `pwritev` would not notice.
    private func fits(_ parts: [UnsafeRawBufferPointer], at offset: UInt64) -> Bool {
        offset <= byteCount && parts.reduce(UInt64(0)) { $0 + UInt64($1.count) } <= byteCount - offset
    }

    /// Writes, then writes the same once more with `RWF_DSYNC`, which waits for these bytes only.
    ///
    /// The first write finds out whether there is room: what the second one says is about the flush. Only where the file system has no
    /// such thing is everything flushed. Any other failure may be that of other bytes of the file, told here instead of at the next flush.
    public func writeDurably(_ parts: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError) {
        try write(parts, at: offset)
        let vectors = IOVectors(parts)
        let result = vectors.withNext(from: 0) {
            clinux_pwritev_durably(descriptor.rawValue, $0, $1, Int64(clamping: offset))
        }
        switch DurableWrite(result: result, of: parts.reduce(0) { $0 + $1.count }) {
        case .isDone: return
        case .isNotSupported: try flush()
        case .failed(let code): throw DiskError(.flush, name, offset: offset, code: code)
        }
    }

    /// `fdatasync`.
    public func flush() throws(DiskError) { try Self.flush(descriptor.rawValue, name) }

    fileprivate static func flush(_ number: Int32, _ name: String) throws(DiskError) {
        var result = clinux_fdatasync(number)
        while result == -Int(EINTR) { result = clinux_fdatasync(number) }
        guard result >= 0 else { throw DiskError(.flush, name, code: Int32(truncatingIfNeeded: -result)) }
    }

    /// Another open file of the same file or device.
    public func openFlusher() throws(DiskError) -> any DiskFlusher {
        let result = openAgain()
        guard result >= 0 else { throw DiskError(.open, name, code: Int32(truncatingIfNeeded: -result)) }
        return Flusher(name: name, descriptor: OwnedDescriptor(adopting: Int32(truncatingIfNeeded: result)))
    }

    private final class Flusher: DiskFlusher {
        let name: String
        let descriptor: OwnedDescriptor
        init(name: String, descriptor: consuming OwnedDescriptor) {
            self.name = name
            self.descriptor = descriptor
        }
        func flush() throws(DiskError) { try FileDisk.flush(descriptor.rawValue, name) }
    }

    /// Punches a hole into the file, or discards sectors of the device.
    ///
    /// Where the file system or the device cannot, nothing is done.
    public func discard(at offset: UInt64, count: UInt64) throws(DiskError) {
        guard count > 0 else { return }
        let result: Int
        if isBlockDevice {
            var range: (UInt64, UInt64) = (offset, count)
            result = withUnsafeMutablePointer(to: &range) { clinux_ioctl(descriptor.rawValue, CBLK_DISCARD, UInt(bitPattern: $0)) }
        } else {
            result = FileSpace.allocate(
                descriptor.rawValue, mode: CLINUX_PUNCH_HOLE, at: Int64(clamping: offset), count: Int64(clamping: count))
        }
        guard result < 0, result != -Int(EOPNOTSUPP) else { return }
        throw DiskError(.discard, name, offset: offset, code: Int32(truncatingIfNeeded: -result))
    }
}

extension FileDisk {
    /// Takes a lock on an open file of its own, so that two locks of one process conflict, too.
    ///
    /// Whoever opened it for reading only changes nothing: a shared lock, the only kind there is then, keeps out all who do.
    public func lock(_ range: DiskLock, exclusive: Bool, wait: Bool) throws(DiskError) -> (any DiskLockHandle)? {
        let number = try borrowLockDescriptor()
        let handle = Handle(disk: self, descriptor: number)
        let kind = exclusive && !isReadOnly ? F_WRLCK : F_RDLCK
        for bytes in range.ranges {
            var result: Int
            repeat {
                result = clinux_ofd_lock(
                    number, Int16(kind), Int64(clamping: bytes.lowerBound), Int64(clamping: bytes.count),
                    wait ? 1 : 0)
            } while result == -Int(EINTR)
            if !wait, result == -Int(EAGAIN) || result == -Int(EACCES) { return nil }
            guard result >= 0 else { throw DiskError(.lock, name, code: Int32(truncatingIfNeeded: -result)) }
        }
        return handle
    }

    /// Whether anybody holds it exclusively.
    public func isLocked(_ range: DiskLock) throws(DiskError) -> Bool {
        let handle = Handle(disk: self, descriptor: try borrowLockDescriptor())
        for bytes in range.ranges {
            let result = clinux_ofd_test(
                handle.descriptor, Int16(F_RDLCK), Int64(clamping: bytes.lowerBound), Int64(clamping: bytes.count))
            guard result >= 0 else { throw DiskError(.lock, name, code: Int32(truncatingIfNeeded: -result)) }
            if result > 0 { return true }
        }
        return false
    }

    private final class Handle: DiskLockHandle {
        let disk: FileDisk
        let descriptor: Int32
        init(disk: FileDisk, descriptor: Int32) {
            self.disk = disk
            self.descriptor = descriptor
        }
        deinit { disk.giveBackLockDescriptor(descriptor) }
    }

    private func borrowLockDescriptor() throws(DiskError) -> Int32 {
        if let spare = lockDescriptors.withLock({ $0.popLast() }) { return spare }
        let result = openAgain()
        guard result >= 0 else { throw DiskError(.lock, name, code: Int32(truncatingIfNeeded: -result)) }
        return Int32(truncatingIfNeeded: result)
    }

    /// Opens by the open file, not by the path: that may be another file by now.
    fileprivate func openAgain(_ flags: Int32 = 0) -> Int {
        clinux_open("/proc/self/fd/\(descriptor.rawValue)", (isReadOnly ? O_RDONLY : O_RDWR) | O_CLOEXEC | flags, 0)
    }

    private func giveBackLockDescriptor(_ number: Int32) {
        let isUnlocked = clinux_ofd_lock(number, Int16(F_UNLCK), 0, 0, 0) >= 0
        let isKept =
            isUnlocked
            && lockDescriptors.withLock { spares in
                guard spares.count < Self.spareLocksMax else { return false }
                spares.append(number)
                return true
            }
        if !isKept { _ = close(number) }
    }
}

/// The same file, opened so that writes go past the page cache.
private enum DirectFile {
    case untried
    case refused
    case open(Int32)

    var descriptor: Int32? { if case .open(let number) = self { number } else { nil } }
}

extension FileDisk {
    /// Writes with `O_DIRECT`: a page of the cache has to be found, filled and found again for each page that is written otherwise.
    ///
    /// Where that is refused, or comes back short, everything goes through the cache.
    public func writePastCache(_ parts: [UnsafeRawBufferPointer], at offset: UInt64) throws(DiskError) {
        let step = StoreFormat.blockBytes
        let isAligned =
            offset % UInt64(step) == 0
            && parts.allSatisfy { $0.count % step == 0 && UInt(bitPattern: $0.baseAddress) % UInt(step) == 0 }
        guard isAligned, !isReadOnly, fits(parts, at: offset), let number = directDescriptor() else { return try write(parts, at: offset) }
        var vectors = IOVectors(parts)
        guard let failure = vectors.writePlainly(to: number, at: offset) else { return }
        // A device that is broken says so here, rather than at the next flush.
        if failure == .inputOutput { throw DiskError(.write, name, offset: offset, code: failure.rawValue) }
        try write(parts, at: offset)
    }

    /// Reads with `O_DIRECT`.
    ///
    /// The kernel writes what waits to be written, then asks the device. What it has given up to write (a failed write-back leaves such
    /// pages in the cache, taken for written) is not seen. A file system in memory has no such thing, and nothing to lose.
    public func readPastCache(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(DiskError) {
        let step = StoreFormat.blockBytes
        let isAligned =
            offset % UInt64(step) == 0 && buffer.count % step == 0 && UInt(bitPattern: buffer.baseAddress) % UInt(step) == 0
        guard isAligned, let number = directDescriptor() else { return try read(at: offset, into: buffer) }
        var done = 0
        while done < buffer.count {
            let position = Int64(clamping: offset) + Int64(done)
            let result = clinux_pread(number, buffer.baseAddress.map { $0 + done }, buffer.count - done, position)
            if result == -Int(EINTR) { continue }
            // Behind the end of the file's data, or not to be had this way.
            if result == 0 || result == -Int(EINVAL) || result == -Int(EOPNOTSUPP) || result % step != 0 {
                return try read(at: offset, into: buffer)
            }
            guard result > 0 else { throw DiskError(.read, name, offset: offset, code: Int32(truncatingIfNeeded: -result)) }
            done += result
        }
    }

    private func directDescriptor() -> Int32? {
        direct.withLock { direct in
            if case .untried = direct {
                let result = openAgain(CLINUX_O_DIRECT)
                direct = result >= 0 ? .open(Int32(truncatingIfNeeded: result)) : .refused
            }
            return direct.descriptor
        }
    }
}

/// What became of a write with `RWF_DSYNC`.
enum DurableWrite: Equatable {
    /// It survives a power cut.
    case isDone
    /// It was not done, or not wholly: the file system has no such thing, or a signal came.
    case isNotSupported
    /// It, or a write of others that was told here, may be lost.
    case failed(Int32)

    /// Takes the answer of `pwritev2`: a count of bytes, or -errno.
    init(result: Int, of total: Int) {
        switch result {
        case total: self = .isDone
        case 0...: self = .isNotSupported
        case -Int(EOPNOTSUPP), -Int(EINVAL), -Int(ENOSYS), -Int(EINTR): self = .isNotSupported
        default: self = .failed(Int32(truncatingIfNeeded: -result))
        }
    }
}
