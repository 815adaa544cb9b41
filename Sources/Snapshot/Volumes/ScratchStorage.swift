public import AuroraVMM
internal import CLinux
public import Linux

/// Where a volume keeps what was written since its base: private, thrown away with the machine, never flushed.
///
/// Offsets and lengths are in bytes; what was never written reads as zeros. Used by one thread at a time.
public protocol ScratchStorage: AnyObject, Sendable {
    /// Fills all buffers.
    ///
    /// - Throws: `SystemError`.
    func read(_ buffers: borrowing IOVectors, at offset: Int64) throws(SystemError)
    /// Writes all buffers.
    ///
    /// - Throws: `SystemError`; the range may then hold anything.
    func write(_ buffers: borrowing IOVectors, at offset: Int64) throws(SystemError)
    /// Makes a range read as zeros, and frees its space where that is possible.
    ///
    /// - Throws: `SystemError`.
    func zero(at offset: Int64, count: Int64) throws(SystemError)
    /// Makes everything read as zeros.
    ///
    /// - Throws: `SystemError`.
    func reset() throws(SystemError)
}

/// A file without a name: it goes away with the process, whatever becomes of that.
///
/// `@unchecked Sendable`: the descriptor never changes; the list of buffers is used by one thread at a time, as the protocol says.
public final class ScratchFile: ScratchStorage, @unchecked Sendable {
    private let file: OwnedDescriptor
    private let what: String
    private var rest = IOVectors()
    /// The kernel's reads and writes, unless a test cuts them short.
    package var calls = FileTransfer.Calls.kernel

    /// Makes a file in a directory, or in memory.
    ///
    /// - Parameter directory: on a file system with room for all that may be written; nil: memory.
    /// - Throws: `SystemError` naming the directory.
    public init(in directory: String?) throws(SystemError) {
        if let directory {
            what = "a scratch file in \(directory)"
            file = try .open(directory, O_RDWR | CLINUX_O_TMPFILE)
        } else {
            what = "a scratch file in memory"
            file = OwnedDescriptor(
                adopting: Int32(try systemCall("make", "a scratch file in memory") { clinux_memfd_create("aurora-volume", 1) }))
        }
    }

    /// Fills all buffers.
    ///
    /// - Throws: `SystemError`.
    public func read(_ buffers: borrowing IOVectors, at offset: Int64) throws(SystemError) {
        try FileTransfer.read(file.rawValue, what, buffers, at: offset, rest: &rest, calls: calls)
    }

    /// Writes all buffers.
    ///
    /// - Throws: `SystemError`.
    public func write(_ buffers: borrowing IOVectors, at offset: Int64) throws(SystemError) {
        try FileTransfer.write(file.rawValue, what, buffers, at: offset, rest: &rest, calls: calls)
    }

    /// Makes a range a hole.
    ///
    /// - Throws: `SystemError`.
    public func zero(at offset: Int64, count: Int64) throws(SystemError) {
        try FileTransfer.writeZeroes(file.rawValue, what, at: offset, count: count, mayFree: true)
    }

    /// Empties the file.
    ///
    /// - Throws: `SystemError`.
    public func reset() throws(SystemError) {
        let number = file.rawValue
        let name = what
        try systemCall("empty", name) { clinux_ftruncate(number, 0) }
    }
}
