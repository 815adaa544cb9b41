internal import CLinux

/// Whole reads and writes on descriptors, with errors that name the file.
public enum DescriptorIO {
    /// Writes all bytes, waiting where the descriptor blocks.
    ///
    /// - Throws: `SystemError` naming what was written to.
    public static func writeAll(_ bytes: [UInt8], to descriptor: Int32, what: String) throws(SystemError) {
        try all(bytes, "write", what) { clinux_write(descriptor, $0, $1) }
    }

    /// Sends all bytes over a socket, waiting where it blocks; a peer that is gone is an error and never a signal.
    ///
    /// - Throws: `SystemError` naming the peer.
    public static func sendAll(_ bytes: [UInt8], to socket: Int32, what: String) throws(SystemError) {
        try all(bytes, "write", what) { clinux_send(socket, $0, $1) }
    }

    private static func all(
        _ bytes: [UInt8], _ operation: String, _ what: String, _ body: (UnsafeRawPointer?, Int) -> Int
    ) throws(SystemError) {
        var start = 0
        while start < bytes.count {
            start += try systemCall(operation, what) {
                bytes.withUnsafeBytes { body($0.baseAddress.map { $0 + start }, $0.count - start) }
            }
        }
    }

    /// Reads what is there, at most the array's length; zero at the end.
    ///
    /// - Throws: `SystemError` naming what was read.
    public static func read(_ descriptor: Int32, into bytes: inout [UInt8], what: String) throws(SystemError) -> Int {
        try systemCall("read", what) { bytes.withUnsafeMutableBytes { clinux_read(descriptor, $0.baseAddress, $0.count) } }
    }
}
