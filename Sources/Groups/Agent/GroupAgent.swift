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

    /// A refusal in words.
    public static func describe(_ failure: Failure) -> String { AgentError.refused(failure).description }

    /// The first two messages of a session's connection: the greeting and the program that is wanted.
    ///
    /// The agent answers `welcome`, then `started` or `failed`; nothing needs to be waited for in between.
    static let greeting = Hello().encoded
}
