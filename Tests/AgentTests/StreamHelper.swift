import Foundation

/// Whole-stream input and output on a descriptor, for tests.
enum StreamHelper {
    /// Sends all bytes, waiting for room, and ends the writing side.
    static func writeAll(_ bytes: [UInt8], to descriptor: Int32) { sayAll(bytes, to: descriptor, ends: true) }

    /// Sends all bytes as far as the other side takes them, then ends the writing side if asked to.
    static func sayAll(_ bytes: [UInt8], to descriptor: Int32, ends: Bool) {
        var sent = 0
        while sent < bytes.count {
            let result = bytes.withUnsafeBytes {
                send(descriptor, $0.baseAddress.map { $0 + sent }, $0.count - sent, Int32(truncatingIfNeeded: Int(MSG_NOSIGNAL)))
            }
            if result > 0 {
                sent += result
            } else if errno == EAGAIN {
                usleep(500)
            } else {
                break
            }
        }
        if ends { shutdown(descriptor, Int32(SHUT_WR)) }
    }

    /// Reads until the other side ends.
    static func readToEnd(_ descriptor: Int32) -> [UInt8] {
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 65_536)
        while true {
            let got = read(descriptor, &buffer, buffer.count)
            if got > 0 {
                bytes += buffer[..<got]
            } else if got < 0 && errno == EAGAIN {
                usleep(500)
            } else {
                return bytes
            }
        }
    }
}
