import CLinux
import Linux

/// Small questions about files.
enum SmallFile {
    /// The first 4 KiB of a file; nil when it cannot be read.
    static func text(_ path: String) -> String? {
        guard let file = try? OwnedDescriptor.open(path, 0) else { return nil }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = clinux_read(file.rawValue, &bytes, bytes.count)
        return count < 0 ? nil : String(decoding: bytes.prefix(count), as: UTF8.self)
    }

    /// Whether something is there.
    static func exists(_ path: String) -> Bool { clinux_access(path, F_OK) == 0 }

    /// Bytes that a file takes on its disk; nil for a device.
    static func allocatedBytes(_ path: String) -> Int? {
        var status = stat()
        guard stat(path, &status) == 0, Int32(bitPattern: status.st_mode) & Int32(S_IFMT) == Int32(S_IFREG) else { return nil }
        return Int(status.st_blocks) * 512
    }
}
