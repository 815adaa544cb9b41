public import AgentProtocol
internal import CLinux

/// A terminal in raw mode for as long as this value lives: every key goes to the guest as it is.
public struct TerminalMode: ~Copyable {
    private let descriptor: Int32
    private var saved: termios

    /// Puts the terminal in raw mode; nil when the descriptor is no terminal.
    public init?(raw descriptor: Int32) {
        var state = termios()
        guard tcgetattr(descriptor, &state) == 0 else { return nil }
        self.descriptor = descriptor
        saved = state
        cfmakeraw(&state)
        tcsetattr(descriptor, TCSADRAIN, &state)
    }

    deinit {
        var state = saved
        tcsetattr(descriptor, TCSADRAIN, &state)
    }

    /// What a program's terminal has when nobody knows better.
    public static let sizeDefault = WindowSize(rows: 24, columns: 80)

    /// The size of a terminal; nil for what is none, or has no size.
    public static func size(of descriptor: Int32) -> WindowSize? {
        var size = WindowSize(rows: 0, columns: 0)
        guard clinux_window_size(descriptor, &size.rows, &size.columns) == 0, size.rows > 0, size.columns > 0 else { return nil }
        return size
    }

    /// Whether a descriptor is a terminal.
    public static func isTerminal(_ descriptor: Int32) -> Bool { isatty(descriptor) == 1 }
}
