import ArgumentParser
import Groups
import Linux

/// How a program in a guest is started: shared by `run` and `exec`.
struct ProcessOptions: ParsableArguments {
    @Flag(name: .shortAndLong, help: "Forward standard input to the program.")
    var interactive = false

    @Flag(name: [.customShort("t"), .customLong("tty")], help: "Give the program a terminal, and put this one in raw mode.")
    var terminal = false

    @Option(
        name: [.customShort("e"), .customLong("env")], parsing: .unconditionalSingleValue,
        help: "Set a variable: NAME=VALUE, or NAME to pass it on.")
    var environment: [String] = []

    @Option(name: [.customShort("w"), .customLong("workdir")], parsing: .unconditional, help: "The working directory in the guest.")
    var directory = ""

    @Option(name: .shortAndLong, parsing: .unconditional, help: "The user, as USER or USER:GROUP.")
    var user = ""

    func validate() throws {
        for entry in environment where entry.hasPrefix("=") || entry.isEmpty {
            throw ValidationError("Invalid variable \"\(entry)\": write NAME=VALUE or NAME.")
        }
        guard directory.isEmpty || directory.hasPrefix("/") else {
            throw ValidationError("The working directory \"\(directory)\" is not an absolute path.")
        }
    }

    /// The variables, those without a value taken from this process, and the terminal's kind.
    var variables: [String] {
        let own = OwnProcess.environment
        var result = environment.compactMap { entry in
            entry.contains("=") ? entry : own[entry].map { "\(entry)=\($0)" }
        }
        if terminal, !result.contains(where: { $0.hasPrefix("TERM=") }), let kind = own["TERM"], !kind.isEmpty {
            result.append("TERM=\(kind)")
        }
        return result
    }

    /// Whether standard input goes to the program: when asked for, or when the program shares this terminal.
    var forwardsInput: Bool { interactive || (terminal && TerminalMode.isTerminal(0)) }
}
