internal import FoundationEssentials

/// What an instance host is asked for, each in a message of its own with two descriptors: control socket and channel.
public struct InstanceHostRequest: Codable, Hashable, Sendable {
    /// Names the machine to be made; empty for none.
    public var machine: String
    /// The digest of a launch image that machines made from now on shall have read already.
    public var prepare: String?
    /// The digest of a launch image that is going to be removed.
    public var forget: String?
    /// A machine that is to be killed: it does not end when it is told to.
    public var kill: String?

    /// Asks for a machine.
    public init(machine: String) { self.machine = machine }

    /// Asks for a machine's end.
    public init(killing machine: String) {
        self.machine = ""
        kill = machine
    }

    /// Asks to close a launch image.
    public init(forgetting digest: String) {
        machine = ""
        forget = digest
    }

    /// Asks to read a launch image.
    public init(preparing digest: String) {
        machine = ""
        prepare = digest
    }
}

/// What an instance host tells.
public struct InstanceHostReport: Codable, Hashable, Sendable {
    /// What became of a machine.
    public enum Kind: String, Codable, Sendable {
        /// Its process was started.
        case started
        /// Its process could not be started.
        case refused
        /// Its process has ended.
        case ended
        /// The host is ready: its launch image is whole.
        case ready
        /// The host cannot work, and ends.
        case failed
    }
    /// What it is about.
    public var kind: Kind
    /// The machine's name; empty for the host itself.
    public var machine: String
    /// The process, or zero.
    public var process: Int32
    /// How the process ended, as waitpid tells it.
    public var status: Int32
    /// Why; empty when all is well.
    public var reason: String

    /// Tells of a machine.
    public init(_ kind: Kind, machine: String = "", process: Int32 = 0, status: Int32 = 0, reason: String = "") {
        self.kind = kind
        self.machine = machine
        self.process = process
        self.status = status
        self.reason = reason
    }
}

/// What an instance process is asked for.
public struct InstanceRequest: Codable, Hashable, Sendable {
    /// The kinds of requests.
    public enum Kind: String, Codable, Sendable {
        /// Map a launch image's memory and disk ahead of `restore`; the machine is used for nothing else afterwards.
        case bind
        /// Restore a launch image; the machine is used for nothing else afterwards.
        case restore
        /// Stand still.
        case pause
        /// Go on.
        case resume
        /// Tell the figures.
        case status
        /// Write the pages that were touched so far to the launch image's working set.
        case record
        /// Close a launch image that is going to be removed.
        case forget
        /// End.
        case end
    }
    /// What is asked for.
    public var kind: Kind
    /// The digest of the launch image to restore.
    public var launch: String?

    /// The guest's vsock port that the channel leads to; absent: the agent's for functions.
    public var port: UInt32?
    /// False: without the working set, so that the touched pages can be told.
    public var populates: Bool?
    /// Bytes that the guest may have written to its disk at once; absent: as many as without a limit of its function.
    public var scratchBytes: Int?

    /// Asks for something.
    public init(_ kind: Kind, launch: String? = nil, populates: Bool? = nil, port: UInt32? = nil) {
        self.port = port
        self.kind = kind
        self.launch = launch
        self.populates = populates
    }
}

/// What the parts of a restore cost, nanoseconds; times are of the monotonic clock.
public struct LaunchTimes: Codable, Hashable, Sendable {
    /// When the request was read.
    public var received: Int64 = 0
    /// Opening the launch image's files and reading the state.
    public var open: Int64 = 0
    /// Mapping the pages that differ.
    public var map: Int64 = 0
    /// Populating the working set.
    public var populate: Int64 = 0
    /// Having KVM know the working set's addresses.
    public var touch: Int64 = 0
    /// Loading processor, interrupts, clock and devices.
    public var state: Int64 = 0
    /// Connecting the channel, and waking the vCPU.
    public var resume: Int64 = 0
    /// When the vCPU's thread went to the guest; zero: not yet.
    public var running: Int64 = 0

    /// Nothing measured yet.
    public init() {}
}

/// What an instance process tells.
public struct InstanceReport: Codable, Hashable, Sendable {
    /// The kinds of reports.
    public enum Kind: String, Codable, Sendable {
        /// The machine is made and waits for `restore`.
        case ready
        /// The function's memory is mapped.
        case bound
        /// The function runs.
        case running
        /// It stands still.
        case paused
        /// It goes on.
        case resumed
        /// Figures.
        case status
        /// The working set is written.
        case recorded
        /// The launch image is closed.
        case forgotten
        /// The request could not be carried out; after `restore` the machine is of no use.
        case failed
        /// The guest ended; the process ends.
        case ended
    }
    /// What it tells.
    public var kind: Kind
    /// Why; empty when all is well.
    public var reason: String
    /// What a restore cost.
    public var times: LaunchTimes?
    /// Nanoseconds it took to make the machine, in `ready`.
    public var making: Int64?
    /// Private memory of the process in bytes, in `status`.
    public var privateBytes: Int?
    /// When the guest's console printed first after the restore; zero: not yet.
    public var firstOutput: Int64?
    /// Pages of the working set, and those of them that the guest touched.
    public var workingSet: WorkingSetFigures?

    /// Tells something.
    public init(_ kind: Kind, reason: String = "") {
        self.kind = kind
        self.reason = reason
    }
}

/// How good a working set is.
public struct WorkingSetFigures: Codable, Hashable, Sendable {
    /// Pages that were populated ahead.
    public var populated = 0
    /// Addresses that KVM was shown ahead.
    public var addresses = 0
    /// Pages that the guest touched.
    public var touched = 0
    /// Pages of both.
    public var hits = 0
    /// Pages that the guest wrote.
    public var written = 0

    /// Nothing known.
    public init() {}
}

/// Messages as lines of JSON, one in each message of a socket that keeps their bounds.
public enum InstanceMessages {
    /// A longer message is not one of ours.
    public static let bytesMax = 4096

    /// The line of a message; nil for one that cannot be written.
    public static func encode(_ message: some Encodable) -> [UInt8]? {
        guard let data = try? JSONEncoder().encode(message), data.count < bytesMax else { return nil }
        return Array(data) + [UInt8(ascii: "\n")]
    }

    /// Reads a line; nil for anything that is not the message.
    public static func decode<Message: Decodable>(_ bytes: ArraySlice<UInt8>, as type: Message.Type = Message.self) -> Message? {
        guard bytes.count <= bytesMax, bytes.last == UInt8(ascii: "\n") else { return nil }
        return try? JSONDecoder().decode(Message.self, from: Data(bytes.dropLast()))
    }
}
