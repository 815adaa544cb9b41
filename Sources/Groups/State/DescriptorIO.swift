internal import CLinux
internal import Linux

/// Whole reads and writes on descriptors, with errors that name the file.
enum DescriptorIO {
    /// Writes all bytes, waiting where the descriptor blocks.
    static func writeAll(_ bytes: [UInt8], to descriptor: Int32, what: String) throws(SystemError) {
        var start = 0
        while start < bytes.count {
            let result = bytes.withUnsafeBytes { clinux_write(descriptor, $0.baseAddress.map { $0 + start }, $0.count - start) }
            if result == -Int(EINTR) { continue }
            start += try systemCall("write", what) { result }
        }
    }

    /// Reads what is there, at most the array's length; zero at the end.
    static func read(_ descriptor: Int32, into bytes: inout [UInt8], what: String) throws(SystemError) -> Int {
        while true {
            let result = bytes.withUnsafeMutableBytes { clinux_read(descriptor, $0.baseAddress, $0.count) }
            if result == -Int(EINTR) { continue }
            return try systemCall("read", what) { result }
        }
    }
}
