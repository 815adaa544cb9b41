internal import CLinux
import Linux

/// What a process has for itself alone, as the kernel counts it.
public enum PrivateMemory {
    /// Bytes of pages that are no file's: those a process has for itself, and what it still shares of the heap it was forked with.
    ///
    /// Two counters of the kernel (`statm`, proc(5)), where `bytes` has it walk all page tables: that takes a millisecond, too
    /// long for every request.
    static func anonymousBytes(_ process: String) -> Int? {
        guard let file = try? OwnedDescriptor.open("/proc/\(process)/statm", O_RDONLY) else { return nil }
        var buffer = [UInt8](repeating: 0, count: 256)
        let count = clinux_read(file.rawValue, &buffer, buffer.count)
        guard count > 0 else { return nil }
        let words = buffer.prefix(count).split(separator: UInt8(ascii: " "))
        guard words.count > 2, let resident = Int(String(decoding: words[1], as: UTF8.self)),
            let shared = Int(String(decoding: words[2], as: UTF8.self))
        else { return nil }
        return max(0, resident - shared) * 4096
    }

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
