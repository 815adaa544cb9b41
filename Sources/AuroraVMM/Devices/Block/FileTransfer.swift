package import CLinux
package import Linux

/// Whole transfers between buffers and a file, whatever the kernel does in one call.
package enum FileTransfer {
    /// The kernel's calls, or a test's: descriptor, buffers, their number, offset; the answer is a count or -errno.
    package struct Calls: Sendable {
        package typealias Call = @Sendable (Int32, UnsafePointer<iovec>, Int32, Int64) -> Int
        package var read: Call
        package var write: Call
        package init(read: @escaping Call, write: @escaping Call) {
            self.read = read
            self.write = write
        }
        package static let kernel = Calls(
            read: { clinux_preadv($0, $1, $2, $3) }, write: { clinux_pwritev($0, $1, $2, $3) })
    }

    /// Fills all buffers; what lies behind the end of the file reads as zeros.
    package static func read(
        _ file: Int32, _ path: String, _ buffers: borrowing IOVectors, at offset: Int64, rest: inout IOVectors, calls: Calls = .kernel
    ) throws(SystemError) {
        var done = try step("read", path, buffers) { calls.read(file, $0, $1, offset) }
        while done < buffers.byteCount {
            rest.assign(buffers, from: done, limit: buffers.byteCount - done)
            let count = try step("read", path, rest) { calls.read(file, $0, $1, offset + Int64(done)) }
            if count == 0 {
                rest.forEach { buffer in buffer.initializeMemory(as: UInt8.self, repeating: 0) }
                return
            }
            done += count
        }
    }

    /// Writes all buffers.
    package static func write(
        _ file: Int32, _ path: String, _ buffers: borrowing IOVectors, at offset: Int64, rest: inout IOVectors, calls: Calls = .kernel
    ) throws(SystemError) {
        var done = try step("write", path, buffers) { calls.write(file, $0, $1, offset) }
        while done < buffers.byteCount {
            rest.assign(buffers, from: done, limit: buffers.byteCount - done)
            let count = try step("write", path, rest) { calls.write(file, $0, $1, offset + Int64(done)) }
            if count == 0 { throw SystemError("write", path, errno: .inputOutput) }
            done += count
        }
    }

    private static func step(
        _ operation: String, _ path: String, _ buffers: borrowing IOVectors, _ call: (UnsafePointer<iovec>, Int32) -> Int
    ) throws(SystemError) -> Int {
        while true {
            let result = buffers.withPointer(call) ?? 0
            if result >= 0 { return result }
            if result == -Int(EINTR) { continue }
            throw SystemError(operation, path, errno: Errno(rawValue: Int32(truncatingIfNeeded: -result)))
        }
    }

    /// Makes a range read as zeros, by the file system's own means where it has them.
    package static func writeZeroes(_ file: Int32, _ path: String, at offset: Int64, count: Int64, mayFree: Bool) throws(SystemError) {
        let punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE
        let zero = FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE
        for mode in mayFree ? [punch, zero] : [zero] {
            let result = FileSpace.allocate(file, mode: Int32(mode), at: offset, count: count)
            if result == 0 { return }
            if result == -Int(ENOSPC) { throw SystemError("write zeros to", path, errno: .noSpace) }
        }
        try writeZeroesByHand(file, path, at: offset, count: count)
    }

    private static func writeZeroesByHand(_ file: Int32, _ path: String, at offset: Int64, count: Int64) throws(SystemError) {
        let zeros = [UInt8](repeating: 0, count: Int(min(count, 1 << 20)))
        var done: Int64 = 0
        while done < count {
            let length = Int(min(count - done, Int64(zeros.count)))
            let written = try systemCall("write zeros to", path) { clinux_pwrite(file, zeros, length, offset + done) }
            if written == 0 { throw SystemError("write zeros to", path, errno: .inputOutput) }
            done += Int64(written)
        }
    }
}
