public import Linux

/// Where the bytes of a disk live.
///
/// Offsets and lengths are in bytes, multiples of 512, inside `byteCount`: the device has checked them. Calls come one at
/// a time.
public protocol BlockBackend: AnyObject {
    /// Size of the disk.
    var byteCount: Int64 { get }
    /// Whether writing is refused.
    var isReadOnly: Bool { get }
    /// Fills all buffers from the disk.
    ///
    /// - Throws: `SystemError`; the guest sees an I/O error.
    func read(_ buffers: borrowing IOVectors, at offset: Int64) throws(SystemError)
    /// Writes all buffers to the disk.
    ///
    /// - Throws: `SystemError`; the guest sees an I/O error, and what the range holds then is either old or new, block by block.
    func write(_ buffers: borrowing IOVectors, at offset: Int64) throws(SystemError)
    /// Returns when everything written so far survives a power cut.
    ///
    /// - Throws: `SystemError`.
    func flush() throws(SystemError)
    /// Makes a range read as zeros; frees its space where that is possible and `mayFree` allows it.
    ///
    /// - Throws: `SystemError`.
    func writeZeroes(at offset: Int64, count: Int64, mayFree: Bool) throws(SystemError)
    /// The guest does not need the range any more.
    ///
    /// - Throws: `SystemError`.
    func discard(at offset: Int64, count: Int64) throws(SystemError)
}
