import ArgumentParser
import CLinux

/// A signal as users write it: `TERM`, `SIGTERM`, `15`.
struct SignalName: ExpressibleByArgument, Hashable, CustomStringConvertible {
    let number: Int32
    let description: String

    static let kill = SignalName(number: SIGKILL, description: "KILL")

    private static let numbers: [String: Int32] = [
        "HUP": SIGHUP, "INT": SIGINT, "QUIT": SIGQUIT, "ILL": SIGILL, "TRAP": SIGTRAP, "ABRT": SIGABRT, "BUS": SIGBUS, "FPE": SIGFPE,
        "KILL": SIGKILL, "USR1": SIGUSR1, "SEGV": SIGSEGV, "USR2": SIGUSR2, "PIPE": SIGPIPE, "ALRM": SIGALRM, "TERM": SIGTERM,
        "CHLD": SIGCHLD, "CONT": SIGCONT, "STOP": SIGSTOP, "TSTP": SIGTSTP, "TTIN": SIGTTIN, "TTOU": SIGTTOU, "WINCH": SIGWINCH,
        "IO": SIGIO, "PWR": SIGPWR, "SYS": SIGSYS, "URG": SIGURG, "XCPU": SIGXCPU, "XFSZ": SIGXFSZ, "PROF": SIGPROF, "VTALRM": SIGVTALRM,
    ]

    private init(number: Int32, description: String) {
        self.number = number
        self.description = description
    }

    init?(argument: String) {
        let text = argument.uppercased()
        let name = text.hasPrefix("SIG") ? String(text.dropFirst(3)) : text
        if let number = SignalName.numbers[name] {
            self.init(number: number, description: name)
        } else if let number = Int32(name), (1...64).contains(number) {
            self.init(number: number, description: SignalName.numbers.first { $0.value == number }?.key ?? name)
        } else {
            return nil
        }
    }
}
