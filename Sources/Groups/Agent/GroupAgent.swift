public import AgentClient
public import AgentProtocol
public import Linux

/// The guest agent of a running group, with errors that say so.
public enum GroupAgent {
    /// Connects and greets.
    ///
    /// - Throws: `GroupError`: `.notRunning` when the group has no VMM, `.guest` when the agent does not answer.
    public static func connect(
        _ directory: GroupDirectory, timeout: Duration = AgentClient.defaultTimeout
    ) throws(GroupError) -> AgentClient {
        do throws(AgentError) {
            return try AgentClient(adopting: try VsockDialer.connect(directory.vsockSocketPath, timeout: timeout), timeout: timeout)
        } catch {
            throw failure(error)
        }
    }

    /// Opens a connection for a program's session: whoever takes it over greets the agent and asks for the program.
    ///
    /// - Throws: as `connect`.
    public static func openSession(_ directory: GroupDirectory) throws(GroupError) -> SharedDescriptor {
        do throws(AgentError) {
            return SharedDescriptor(try VsockDialer.connect(directory.vsockSocketPath))
        } catch {
            throw failure(error)
        }
    }

    /// An agent's error as one of the group.
    public static func failure(_ error: AgentError) -> GroupError {
        if case .system(let error) = error, [.noEntry, .connectionRefused].contains(error.errno) {
            return GroupError(.notRunning, "The group's VMM does not answer: \(error)")
        }
        return GroupError(.guest, error.description)
    }

    /// The most bytes of an argument or a variable: what the guest's kernel takes (`MAX_ARG_STRLEN`), less the terminator.
    private static let textBytesMax = AgentLimits.textBytesMax - 1

    /// Finds out whether a program can be asked for with these arguments and variables.
    ///
    /// - Throws: `GroupError` (`.invalidValue`) naming the limit.
    public static func requireFitting(_ request: StartRequest) throws(GroupError) {
        let remedy = "Hand over what is long in a file, or on standard input."
        if let longest = (request.arguments + request.environment).map(\.bytes.count).max(), longest > textBytesMax {
            throw GroupError(
                .invalidValue, "An argument or variable has \(longest) bytes, at most \(textBytesMax) are possible", remedy: remedy)
        }
        let bytes = request.encoded.count
        guard bytes <= AgentLimits.requestBytesMax else {
            throw GroupError(
                .invalidValue, "The command and its environment have \(bytes) bytes, at most \(AgentLimits.requestBytesMax) are possible",
                remedy: remedy)
        }
    }

    /// A refusal in words.
    public static func describe(_ failure: Failure) -> String { AgentError.refused(failure).description }

    /// The first two messages of a session's connection: the greeting and the program that is wanted.
    ///
    /// The agent answers `welcome`, then `started` or `failed`; nothing needs to be waited for in between.
    static let greeting = Hello().encoded
}
