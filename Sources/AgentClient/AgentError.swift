public import AgentProtocol
public import Linux

/// Why the agent could not be asked, or what it answered instead of doing it.
public enum AgentError: Error, Equatable, Sendable {
    /// What came from the guest is no proper message; the connection is unusable.
    case fault(ProtocolFault)
    /// The agent understood the request and could not do it.
    case refused(Failure)
    /// The agent did not answer in time; the text names the request.
    case timedOut(String)
    /// The connection ended before the answer; the text names the request.
    case disconnected(String)
    /// A system call of this side failed.
    case system(SystemError)

    /// The exit code of `aurora run` and `aurora exec` for this error: 127 not found, 126 not executable, else 125.
    public var exitCode: Int32 {
        guard case .refused(let failure) = self else { return 125 }
        return switch failure.code {
        case .commandNotFound: 127
        case .notExecutable, .badDirectory: 126
        default: 125
        }
    }
}

extension AgentError: CustomStringConvertible {
    /// The error in words for a user.
    public var description: String {
        switch self {
        case .fault(let fault): "Cannot understand the guest: \(fault)"
        case .refused(let failure): AgentError.describe(failure)
        case .timedOut(let what): "Cannot \(what): the guest's agent did not answer in time"
        case .disconnected(let what): "Cannot \(what): the guest's agent closed the connection"
        case .system(let error): error.description
        }
    }

    private static func describe(_ failure: Failure) -> String {
        let subject = failure.subject.string
        let reason = failure.errno == 0 ? "" : ": \(Errno(rawValue: failure.errno))"
        return switch failure.code {
        case .system: "Cannot \(subject)\(reason)"
        case .commandNotFound: "Cannot run \(subject): command not found in the guest"
        case .notExecutable: "Cannot run \(subject)\(reason)"
        case .unknownUser: "Cannot run as \(subject): no such user or group in the guest"
        case .badDirectory: "Cannot enter directory \(subject) in the guest\(reason)"
        case .noSession: "Cannot find \(subject): it ended or was never started"
        case .protocolFault: "Cannot serve the request: the agent reports a \(subject)"
        case .limit: "Cannot start: the agent's limit is reached (\(subject))"
        case .versionMismatch: "Cannot talk to the guest's agent: \(subject), this program version \(agentProtocolVersion)"
        }
    }
}
