/// What the user asked for: `groups/NAME/config.json`, written once when the group is made.
public struct GroupConfiguration: Codable, Sendable, Hashable {
    /// The version of the file that this source writes and reads.
    public static let currentVersion = 1
    /// The guest's kernel, modules and agent answer within this unless the user says otherwise.
    public static let startTimeoutSecondsDefault = 30

    /// The version of the file.
    public var version = GroupConfiguration.currentVersion
    /// The group's name.
    public var name: GroupName
    /// The image's name.
    public var image: String
    /// Guest memory in bytes.
    public var memoryBytes: Int
    /// The program and its arguments.
    public var command: [String]
    /// `NAME=value` entries.
    public var environment: [String] = []
    /// The program's working directory; empty for the root.
    public var directory = ""
    /// `user[:group]`; empty for root.
    public var user = ""
    /// Whether the program has a terminal.
    public var terminal = false
    /// Whether standard input is forwarded.
    public var wantsInput = false
    /// Published ports.
    public var ports: [PortMapping] = []
    /// Further disks.
    public var volumes: [VolumeMapping] = []
    /// How it is persisted; nil for a group that is not.
    public var persistence: PersistenceSettings?
    /// The store's file or device; nil: the usual one.
    public var storePath: String?
    /// Whether the group is removed when its program ends.
    public var removeWhenEnded = false
    /// How long the guest may take until its agent answers, in seconds.
    public var startTimeoutSeconds = GroupConfiguration.startTimeoutSecondsDefault
    /// When the group was made.
    public var createdAt: String

    /// Describes a group.
    public init(name: GroupName, image: String, memoryBytes: Int, command: [String], createdAt: String = Timestamp.now()) {
        self.name = name
        self.image = image
        self.memoryBytes = memoryBytes
        self.command = command
        self.createdAt = createdAt
    }
}
