internal import CLinux

/// A signal as users and images write it: `TERM`, `SIGTERM`, `15`, `RTMIN+3`.
public struct SignalName: Hashable, Sendable, CustomStringConvertible {
    /// The number that Linux has for it on this architecture.
    public let number: Int32
    /// The name without `SIG`, or the number of one that has none.
    public let description: String

    /// Ends a program that cannot refuse.
    public static let kill = SignalName(SIGKILL)

    /// The highest signal.
    private static let numberMax: Int32 = 64
    /// What programs see as the first real-time signal: the C library keeps two for itself (signal(7)).
    private static let realTimeMin: Int32 = 34

    private static let numbers: [String: Int32] = [
        "HUP": SIGHUP, "INT": SIGINT, "QUIT": SIGQUIT, "ILL": SIGILL, "TRAP": SIGTRAP, "ABRT": SIGABRT, "BUS": SIGBUS, "FPE": SIGFPE,
        "KILL": SIGKILL, "USR1": SIGUSR1, "SEGV": SIGSEGV, "USR2": SIGUSR2, "PIPE": SIGPIPE, "ALRM": SIGALRM, "TERM": SIGTERM,
        "CHLD": SIGCHLD, "CONT": SIGCONT, "STOP": SIGSTOP, "TSTP": SIGTSTP, "TTIN": SIGTTIN, "TTOU": SIGTTOU, "WINCH": SIGWINCH,
        "IO": SIGIO, "PWR": SIGPWR, "SYS": SIGSYS, "URG": SIGURG, "XCPU": SIGXCPU, "XFSZ": SIGXFSZ, "PROF": SIGPROF, "VTALRM": SIGVTALRM,
        "RTMIN": realTimeMin, "RTMAX": numberMax,
    ]

    /// Every name there is, in the order of the numbers.
    public static var names: [String] { numbers.sorted { $0.value < $1.value }.map(\.key) }

    private init(_ number: Int32) {
        self.number = number
        description = SignalName.numbers.first { $0.value == number }?.key ?? "\(number)"
    }

    /// Reads a name, with or without `SIG` and in any case, or a number.
    ///
    /// - Throws: `GroupError` (`.invalidValue`) that lists the names.
    public init(parsing text: String) throws(GroupError) {
        let upper = text.uppercased()
        let name = upper.hasPrefix("SIG") ? String(upper.dropFirst(3)) : upper
        guard let number = SignalName.numbers[name] ?? SignalName.realTime(name) ?? Int32(name), (1...SignalName.numberMax).contains(number)
        else {
            throw GroupError(
                .invalidValue, "There is no signal \"\(text.prefix(40))\"",
                remedy: "Write a number from 1 to \(SignalName.numberMax), or one of: "
                    + "\(SignalName.names.joined(separator: " ")), RTMIN+1, RTMAX-1."
            )
        }
        self.init(number)
    }

    private static func realTime(_ name: String) -> Int32? {
        let (start, sign): (Int32, Int32) = name.hasPrefix("RTMIN+") ? (realTimeMin, 1) : (numberMax, -1)
        guard name.hasPrefix("RTMIN+") || name.hasPrefix("RTMAX-"), let offset = Int32(name.dropFirst(6)),
            (0...numberMax - realTimeMin).contains(offset)
        else { return nil }
        return start + sign * offset
    }
}
