/// The body of every answer that is not 200: what failed and why.
public struct ControlFailure: Codable, Sendable, Hashable {
    /// The message for the user.
    public var error: String

    /// Describes a failure.
    public init(error: String) { self.error = error }
}

/// The answer to `GET /v1/status`: configuration and status in one.
public struct ControlStatus: Codable, Sendable, Hashable {
    /// What the user asked for.
    public var configuration: GroupConfiguration
    /// What became of it.
    public var status: GroupStatus

    /// Joins both.
    public init(configuration: GroupConfiguration, status: GroupStatus) {
        self.configuration = configuration
        self.status = status
    }
}

/// The answer to requests that only do something.
public struct ControlDone: Codable, Sendable, Hashable {
    /// The group's state afterwards.
    public var state: GroupStatus.State

    /// Names the state.
    public init(state: GroupStatus.State) { self.state = state }
}
