internal import CLinux
import Linux

/// A disk that is a file, byte by byte.
///
/// The format is never guessed.
final class RawFileBackend: BlockBackend {
    let byteCount: Int64
    let isReadOnly: Bool
    private let file: OwnedDescriptor
    private let path: String
    private var rest = IOVectors()

    /// Opens a file, or a block device, as a disk.
    ///
    /// What does not fill a sector at its end is not part of the disk.
    ///
    /// - Throws: `SystemError` with the path.
    convenience init(path: String, isReadOnly: Bool) throws(SystemError) {
        try self.init(adopting: .open(path, isReadOnly ? O_RDONLY : O_RDWR), path: path, isReadOnly: isReadOnly)
    }

    /// Uses an open file as a disk.
    ///
    /// - Parameter path: only for messages.
    /// - Throws: `SystemError` when its size cannot be told.
    init(adopting file: consuming OwnedDescriptor, path: String, isReadOnly: Bool) throws(SystemError) {
        let descriptor = file.rawValue
        let end = try systemCall("tell the size of", path) { Int(lseek(descriptor, 0, SEEK_END)) }
        byteCount = Int64(end) / BlockRequest.sectorBytes * BlockRequest.sectorBytes
        self.isReadOnly = isReadOnly
        self.file = file
        self.path = path
    }

    func read(_ buffers: borrowing IOVectors, at offset: Int64) throws(SystemError) {
        try FileTransfer.read(file.rawValue, path, buffers, at: offset, rest: &rest)
    }

    func write(_ buffers: borrowing IOVectors, at offset: Int64) throws(SystemError) {
        try FileTransfer.write(file.rawValue, path, buffers, at: offset, rest: &rest)
    }

    func flush() throws(SystemError) {
        let descriptor = file.rawValue
        try systemCall("flush", path) { clinux_fdatasync(descriptor) }
    }

    func writeZeroes(at offset: Int64, count: Int64, mayFree: Bool) throws(SystemError) {
        try FileTransfer.writeZeroes(file.rawValue, path, at: offset, count: count, mayFree: mayFree)
    }

    /// Discarded sectors read as zeros afterwards, which is more than the guest was promised.
    func discard(at offset: Int64, count: Int64) throws(SystemError) {
        try FileTransfer.writeZeroes(file.rawValue, path, at: offset, count: count, mayFree: true)
    }
}
