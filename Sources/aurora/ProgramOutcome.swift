import AgentProtocol
import ArgumentParser
import Groups
import Linux

extension StdioClient.Outcome {
    /// Why there is no program, for who starts several groups and names each; nil when there is one.
    func failure(lost: String) -> GroupError? {
        switch self {
        case .detached, .exited: nil
        case .failed(let failure): GroupError(.host, failure.subject.string)
        case .lost: GroupError(.host, lost)
        }
    }

    /// Ends this command as the program ended.
    ///
    /// - Throws: `ExitCode`, always but for success; the message of a failure was written.
    func finish(lost: String) throws {
        switch self {
        case .detached: return
        case .exited(let status):
            if status.shellCode != 0 { throw ExitCode(status.shellCode) }
        case .failed(let failure):
            Terminal.writeError("error: \(failure.subject.string)\n")
            throw ExitCode(failure.exitCode)
        case .lost:
            Terminal.writeError("error: \(lost)\n")
            throw ExitCode(ExitCodes.engine)
        }
    }
}

extension Failure {
    /// The exit code container tools have for it.
    var exitCode: Int32 {
        switch code {
        case .commandNotFound: ExitCodes.notFound
        case .notExecutable: ExitCodes.notExecutable
        default: ExitCodes.engine
        }
    }
}
