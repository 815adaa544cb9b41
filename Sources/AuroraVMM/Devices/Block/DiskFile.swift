internal import CLinux
import Linux

/// An open file that holds a disk, locked against other users for as long as it is open.
final class DiskFile {
    let path: String
    let byteCount: Int64
    private let file: OwnedDescriptor
    var descriptor: Int32 { file.rawValue }

    /// Opens a file: shared with other readers if it is only read, alone otherwise.
    ///
    /// - Throws: `DiskError` with the path.
    convenience init(path: String, isReadOnly: Bool) throws(DiskError) {
        let file: OwnedDescriptor
        do throws(SystemError) {
            file = try .open(path, isReadOnly ? O_RDONLY : O_RDWR)
        } catch { throw .system(error) }
        try self.init(adopting: file, path: path, isReadOnly: isReadOnly)
    }

    /// Uses an open file or block device.
    ///
    /// - Throws: `DiskError` with the path.
    init(adopting file: consuming OwnedDescriptor, path: String, isReadOnly: Bool) throws(DiskError) {
        let descriptor = file.rawValue
        let lock = clinux_flock(descriptor, (isReadOnly ? LOCK_SH : LOCK_EX) | LOCK_NB)
        if lock == -Int(EWOULDBLOCK) { throw .inUse(path: path) }
        do throws(SystemError) {
            try systemCall("lock", path) { lock }
            byteCount = Int64(try systemCall("tell the size of", path) { Int(lseek(descriptor, 0, SEEK_END)) })
        } catch { throw .system(error) }
        self.file = file
        self.path = path
    }

    /// Gives the lock back by itself: a child that is just being started still holds the parent's descriptors, and their lock.
    deinit { _ = clinux_flock(file.rawValue, LOCK_UN) }
}
