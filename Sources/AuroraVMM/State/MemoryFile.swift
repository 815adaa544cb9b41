internal import CLinux
public import Linux

/// A file with the contents of a piece of guest memory: page by page, as in memory, zero pages left as holes.
public enum MemoryFile {
    private static let zeroPage = [UInt8](repeating: 0, count: pageBytes)
    /// One write never has more, so that an interruption loses little.
    private static let writeBytesMax = 4 << 20

    /// Writes a new file, which takes the place of an old one only when it is whole: a machine may be mapping the old one.
    ///
    /// - Returns: the bytes that were not zero.
    /// - Throws: `SystemError` naming the path.
    @discardableResult
    public static func write(_ memory: Mapping, to path: String) throws(SystemError) -> Int {
        let temporary = path + ".new"
        do throws(SystemError) {
            let written = try create(temporary, memory)
            try systemCall("rename", temporary) { clinux_renameat2(temporary, path, 0) }
            return written
        } catch {
            unlink(temporary)
            throw error
        }
    }

    private static func create(_ path: String, _ memory: Mapping) throws(SystemError) -> Int {
        let file = try OwnedDescriptor.open(path, O_RDWR | O_CREAT | O_TRUNC)
        let number = file.rawValue
        try systemCall("set the size of", path) { clinux_ftruncate(number, Int64(memory.count)) }
        var written = 0
        var start = 0
        while start < memory.count {
            let end = run(in: memory, from: start)
            if end == start {
                start += pageBytes
            } else {
                try write(UnsafeRawBufferPointer(start: memory.base + start, count: end - start), to: number, at: start, path)
                written += end - start
                start = end
            }
        }
        return written
    }

    /// Maps a file copy-on-write: the guest's writes do not reach it.
    ///
    /// - Throws: `SystemError` when the file does not have exactly `count` bytes.
    public static func map(_ path: String, count: Int) throws(SystemError) -> Mapping {
        let file = try OwnedDescriptor.open(path, O_RDONLY)
        let number = file.rawValue
        let size = try systemCall("tell the size of", path) { Int(lseek(number, 0, SEEK_END)) }
        guard size == count, count > 0 else {
            throw SystemError("use", "\(path) of \(size) bytes for \(count) bytes of memory", errno: .invalidArgument)
        }
        return try Mapping.file(file, count: count, shared: false, what: path)
    }

    /// Writes all bytes to the start of an open file.
    static func write(_ bytes: [UInt8], to file: borrowing OwnedDescriptor, _ path: String) throws(SystemError) {
        let number = file.rawValue
        var failure: SystemError?
        bytes.withUnsafeBytes { buffer in
            do throws(SystemError) { try write(buffer, to: number, at: 0, path) } catch { failure = error }
        }
        if let failure { throw failure }
    }

    /// The end of the pages from `start` that are not zero.
    private static func run(in memory: Mapping, from start: Int) -> Int {
        var end = start
        zeroPage.withUnsafeBytes { zero in
            guard let zero = zero.baseAddress else { return }
            while end < memory.count, end - start < writeBytesMax, memcmp(memory.base + end, zero, pageBytes) != 0 { end += pageBytes }
        }
        return end
    }

    private static func write(_ bytes: UnsafeRawBufferPointer, to number: Int32, at offset: Int, _ path: String) throws(SystemError) {
        var done = 0
        while done < bytes.count {
            let count = try systemCall("write", path) {
                clinux_pwrite(number, bytes.baseAddress.map { $0 + done }, bytes.count - done, Int64(offset + done))
            }
            guard count > 0 else { throw SystemError("write", path, errno: .noSpace) }
            done += count
        }
    }
}
