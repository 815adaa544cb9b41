internal import Linux
internal import Synchronization

/// Where the listener is put once it listens.
final class ListenerSlot: Sendable {
    private let slot = Mutex<HTTPListener?>(nil)
    var value: HTTPListener? {
        get { slot.withLock { $0 } }
        set { slot.withLock { $0 = newValue } }
    }
}

/// Where a task is put that runs as long as the gateway.
final class TaskSlot: Sendable {
    private let slot = Mutex<Task<Void, Never>?>(nil)
    var value: Task<Void, Never>? {
        get { slot.withLock { $0 } }
        set { slot.withLock { $0 = newValue } }
    }
}

/// How much memory the host has left.
enum HostMemory {
    /// `MemAvailable`, bytes; nil when it cannot be told.
    static var availableBytes: Int? { field("MemAvailable:", of: "/proc/meminfo") }
    /// Resident memory of this process, bytes; nil when it cannot be told.
    static var ownResidentBytes: Int? { field("VmRSS:", of: "/proc/self/status") }

    private static func field(_ name: String, of path: String) -> Int? {
        guard let bytes = try? DurableFile.read(path, bytesMax: 1 << 20) else { return nil }
        for line in String(decoding: bytes, as: UTF8.self).split(separator: "\n") where line.hasPrefix(name) {
            return line.split(whereSeparator: { $0 == " " || $0 == "\t" }).dropFirst().first.flatMap { Int($0) }.map { $0 * 1024 }
        }
        return nil
    }
}
