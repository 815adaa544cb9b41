import ArgumentParser
import CLinux
import Images
import Linux
import Synchronization

/// The flag of commands that may take minutes.
struct ProgressOptions: ParsableArguments {
    @Flag(name: .shortAndLong, help: "Do not tell what is being done.")
    var quiet = false

    /// Runs what takes long, and tells its steps on standard error.
    func during<Result>(_ body: (@escaping BuildProgress) throws -> Result) throws -> Result {
        try ProgressReport.during(isQuiet: quiet, body)
    }
}

/// Tells on standard error what a build is doing.
///
/// On a terminal at once, with the bytes and seconds of the step; elsewhere in plain lines, and only of what takes longer than some
/// seconds.
final class ProgressReport: Sendable {
    private struct State {
        var step = ""
        var stepStart: Int64 = 0
        /// Whether the step has been told.
        var isTold = false
        /// When something was told last.
        var last: Int64 = 0
        /// Whether the terminal's last line is one that will be written over.
        var isOpen = false
    }

    /// What ends sooner is not told where nobody watches.
    private static let patienceMilliseconds: Int64 = 5_000
    /// A step that goes on is told again after this.
    private static let repeatMilliseconds: Int64 = 30_000

    private let isTerminal: Bool
    private let start: Int64
    private let write: @Sendable (String) -> Void
    private let now: @Sendable () -> Int64
    private let state = Mutex(State())

    /// Reports to a terminal or to plain lines.
    init(
        isTerminal: Bool, write: @escaping @Sendable (String) -> Void = { Terminal.writeSteering($0) },
        now: @escaping @Sendable () -> Int64 = { clinux_monotonic_milliseconds() }
    ) {
        self.isTerminal = isTerminal
        self.write = write
        self.now = now
        start = now()
    }

    /// Runs what takes long, and tells its steps.
    static func during<Result>(isQuiet: Bool, _ body: (@escaping BuildProgress) throws -> Result) rethrows -> Result {
        guard !isQuiet else { return try body { _ in } }
        let report = ProgressReport(isTerminal: Terminal.isTerminal(2))
        defer { report.finish() }
        return try body { report.note($0) }
    }

    /// Takes an event.
    func note(_ event: BuildEvent) {
        let now = now()
        state.withLock { state in
            switch event {
            case .step(let step):
                state.step = step.visibleLine
                state.stepStart = now
                state.isTold = isTerminal || now - start >= Self.patienceMilliseconds
                if state.isTold { tell("aurora: \(state.step)\n", &state, now) }
            case .written(let bytes): goOn(bytes, &state, now)
            }
        }
    }

    private func goOn(_ bytes: Int, _ state: inout State, _ now: Int64) {
        let seconds = (now - state.stepStart) / 1000
        if isTerminal {
            tell("\r        \(ImageCommand.readable(bytes)), \(seconds) s\u{1B}[K", &state, now)
            state.isOpen = true
        } else if !state.isTold, now - start >= Self.patienceMilliseconds {
            state.isTold = true
            tell("aurora: \(state.step)\n", &state, now)
        } else if state.isTold, now - state.last >= Self.repeatMilliseconds {
            tell("aurora: \(state.step): \(ImageCommand.readable(bytes)) after \(seconds) s\n", &state, now)
        }
    }

    private func tell(_ text: String, _ state: inout State, _ now: Int64) {
        write((state.isOpen && !text.hasPrefix("\r") ? "\r\u{1B}[K" : "") + text)
        state.isOpen = false
        state.last = now
    }

    /// Leaves the terminal's line as a prompt wants it.
    func finish() {
        state.withLock { state in
            if state.isOpen { write("\r\u{1B}[K") }
            state.isOpen = false
        }
    }
}
