internal import AgentProtocol

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
    /// The signal that asks the program to end; nil: SIGTERM.
    public var stopSignal: Int32?
    /// Published ports.
    public var ports: [PortMapping] = []
    /// How its programs are kept apart from their kernel, once it has booted for good; nil: `.shared`.
    public var isolation: IsolationSetting?
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

    /// The host's side of a checkpoint holds more than the configuration, within the same bound.
    private static let bytesMax = StateFile.bytesMax - 65_536

    /// Finds out whether the group can be kept and its program started, before anything is made.
    ///
    /// - Throws: `GroupError` (`.invalidValue`) naming the limit.
    public func requireFitting() throws(GroupError) {
        try GroupAgent.requireFitting(startRequest)
        let bytes = (try? StateFile.encode(self))?.count ?? .max
        guard bytes <= GroupConfiguration.bytesMax else {
            throw GroupError(
                .invalidValue, "The group's configuration, with its command and environment, would have \(bytes) bytes",
                remedy: "At most \(GroupConfiguration.bytesMax) are possible. Hand over what is long in a file, or on standard input.")
        }
    }

    /// The program as the guest's agent is asked for it.
    var startRequest: StartRequest {
        StartRequest(
            arguments: command.map(Text.init(argument:)), environment: environment.map(Text.init(argument:)),
            directory: Text(argument: directory), user: Text(argument: user), terminal: terminal ? TerminalMode.sizeDefault : nil,
            wantsInput: wantsInput, survivesDisconnect: true)
    }

    /// Describes a group.
    public init(name: GroupName, image: String, memoryBytes: Int, command: [String], createdAt: String = Timestamp.now()) {
        self.name = name
        self.image = image
        self.memoryBytes = memoryBytes
        self.command = command
        self.createdAt = createdAt
    }
}
