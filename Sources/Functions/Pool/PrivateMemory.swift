internal import CLinux
import Linux

/// What a process has for itself alone, as the kernel counts it.
public enum PrivateMemory {
    /// Bytes of pages that a process shares with nobody (`Private_*` of smaps_rollup); nil when it cannot be told.
    public static func bytes(_ process: String = "self") -> Int? {
        guard let file = try? OwnedDescriptor.open("/proc/\(process)/smaps_rollup", O_RDONLY) else { return nil }
        var buffer = [UInt8](repeating: 0, count: 4096)
        let count = clinux_read(file.rawValue, &buffer, buffer.count)
        guard count > 0 else { return nil }
        var total = 0
        for line in buffer.prefix(count).split(separator: UInt8(ascii: "\n")) where line.starts(with: Array("Private_".utf8)) {
            let words = line.split(separator: UInt8(ascii: " "))
            if words.count > 1 { total += (Int(String(decoding: words[1], as: UTF8.self)) ?? 0) * 1024 }
        }
        return total
    }
}
