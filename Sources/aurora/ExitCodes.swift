import ArgumentParser

/// Exit codes, those of container tools.
enum ExitCodes {
    /// A command failed.
    static let failure: Int32 = 1
    /// What was watched died and can be resumed (`EX_TEMPFAIL` of sysexits.h).
    static let resumable: Int32 = 75
    /// `run`, `exec`, `attach`: Aurora failed, not the program.
    static let engine: Int32 = 125
    /// The program cannot be executed.
    static let notExecutable: Int32 = 126
    /// The program was not found.
    static let notFound: Int32 = 127
}

/// A command whose exit code is that of a program in a guest, so that its own failures need another one.
protocol EngineCommand: ParsableCommand {}
