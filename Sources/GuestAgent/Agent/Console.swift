import CAgent

/// Where the agent reports: the machine's console, so that the host's log shows it.
struct Console {
    private var descriptor: Int32 = -1

    /// A console that is not open yet; lines go nowhere.
    init() {}

    /// A console on an open descriptor.
    init(descriptor: Int32) { self.descriptor = descriptor }

    /// Opens the console the kernel prefers, else the kernel's own log.
    mutating func open() {
        let candidates: [Text] = ["/dev/console", "/dev/hvc0", "/dev/kmsg"]
        for path in candidates {
            let opened = withCString(path) { sys_open($0, O_WRONLY | O_NOCTTY | O_NONBLOCK, 0) }
            guard opened >= 0 else { continue }
            descriptor = Int32(truncatingIfNeeded: opened)
            return
        }
    }

    /// Writes one line, "aurora-agent: TEXT".
    func say(_ text: Text) {
        let line = "aurora-agent: " + text + "\n"
        line.bytes.withUnsafeBytes { _ = sys_write(descriptor, $0.baseAddress.unsafelyUnwrapped, $0.count) }
    }
}
