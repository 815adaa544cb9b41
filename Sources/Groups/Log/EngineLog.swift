internal import CLinux
internal import Linux

/// Messages of the VMM process about itself: its standard error, which is the group's `engine.log`.
public enum EngineLog {
    /// Writes one line with the time.
    public static func write(_ message: String) {
        let line = Array("\(Timestamp.now()) \(message.visible)\n".utf8)
        _ = line.withUnsafeBytes { clinux_write(2, $0.baseAddress, $0.count) }
    }
}
