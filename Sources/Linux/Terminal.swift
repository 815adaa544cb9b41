internal import CLinux

/// What a program needs to know of the terminal it may be on.
public enum Terminal {
    /// Whether a descriptor is a terminal.
    public static func isTerminal(_ descriptor: Int32) -> Bool { isatty(descriptor) == 1 }

    /// Writes words of ours to standard error, foreign ones in them made visible; a text nobody can read any more is dropped.
    public static func writeError(_ text: String) { write(text.visible, to: STDERR_FILENO) }

    /// Writes to standard error what moves the cursor itself; foreign words in it are the caller's to make visible.
    public static func writeSteering(_ text: String) { write(text, to: STDERR_FILENO) }

    /// Shows how far something is, in place of what was shown before; nothing when standard error is no terminal.
    public static func showProgress(_ text: String) {
        guard isTerminal(STDERR_FILENO) else { return }
        write("\r\(text.visibleLine)\(clearLine)", to: STDERR_FILENO)
    }

    /// Takes away what was shown last.
    public static func endProgress() {
        guard isTerminal(STDERR_FILENO) else { return }
        write("\r\(clearLine)", to: STDERR_FILENO)
    }

    private static let clearLine = "\u{1B}[K"

    private static func write(_ text: String, to descriptor: Int32) {
        try? DescriptorIO.writeAll(Array(text.utf8), to: descriptor, what: "message")
    }
}
