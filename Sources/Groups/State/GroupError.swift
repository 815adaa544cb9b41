/// Why something could not be done with a group: what failed, why, and what the user can do about it.
public struct GroupError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The kinds of failure a caller acts upon.
    public enum Kind: Sendable, Hashable {
        /// A value the user gave is not acceptable.
        case invalidValue
        /// The name belongs to another group.
        case nameTaken
        /// There is no group of that name.
        case notFound
        /// The group runs, and must not for this.
        case isRunning
        /// The group does not run, and must for this.
        case notRunning
        /// A file of the group is missing, damaged or of a version this program does not know.
        case badState
        /// The host refused or lacks something.
        case host
        /// The guest failed or did not answer.
        case guest
        /// What was waited for did not come in time.
        case timeout
    }

    /// The kind of failure.
    public let kind: Kind
    /// What failed and why.
    public let message: String
    /// What the user can do, if that is known.
    public let remedy: String?

    /// Describes a failure.
    public init(_ kind: Kind, _ message: String, remedy: String? = nil) {
        self.kind = kind
        self.message = message
        self.remedy = remedy
    }

    /// The message, and the remedy on a line of its own.
    public var description: String {
        guard let remedy else { return message }
        return "\(message)\n\(remedy)"
    }
}
