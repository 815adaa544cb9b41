internal import CLinux
import Linux

/// A disk that is a file, byte by byte.
///
/// The format is never guessed.
final class RawFileBackend: BlockBackend {
    let byteCount: Int64
    let isReadOnly: Bool
    private let file: DiskFile
    private var rest = IOVectors()

    /// Opens a file, or a block device, as a disk.
    ///
    /// What does not fill a sector at its end is not part of the disk.
    ///
    /// - Throws: `DiskError` with the path.
    init(path: String, isReadOnly: Bool) throws(DiskError) {
        file = try DiskFile(path: path, isReadOnly: isReadOnly)
        byteCount = file.byteCount / BlockRequest.sectorBytes * BlockRequest.sectorBytes
        self.isReadOnly = isReadOnly
        guard byteCount > 0 else { throw .tooSmall(path: path) }
    }

    func read(_ buffers: borrowing IOVectors, at offset: Int64) throws(SystemError) {
        try FileTransfer.read(file.descriptor, file.path, buffers, at: offset, rest: &rest)
    }

    func write(_ buffers: borrowing IOVectors, at offset: Int64) throws(SystemError) {
        try FileTransfer.write(file.descriptor, file.path, buffers, at: offset, rest: &rest)
    }

    func flush() throws(SystemError) {
        let descriptor = file.descriptor
        try systemCall("flush", file.path) { clinux_fdatasync(descriptor) }
    }

    func writeZeroes(at offset: Int64, count: Int64, mayFree: Bool) throws(SystemError) {
        try FileTransfer.writeZeroes(file.descriptor, file.path, at: offset, count: count, mayFree: mayFree)
    }

    /// Discarded sectors read as zeros afterwards, which is more than the guest was promised.
    func discard(at offset: Int64, count: Int64) throws(SystemError) {
        try FileTransfer.writeZeroes(file.descriptor, file.path, at: offset, count: count, mayFree: true)
    }
}
