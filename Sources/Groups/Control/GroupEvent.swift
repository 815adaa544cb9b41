/// Something that happened to a running group.
public struct GroupEvent: Codable, Sendable, Hashable {
    /// What it is about.
    public enum Kind: String, Codable, Sendable, Hashable, CaseIterable {
        /// The group's state changed.
        case state
        /// A checkpoint that somebody asked for is durable.
        case checkpoint
        /// A backend was attached or detached, or how often checkpoints are made was changed.
        case backend
        /// The group was put back to a checkpoint.
        case rollback
        /// Checkpoints are no longer made as promised, or are again.
        case health
        /// A warning.
        case warning
    }

    /// Its number: one more than the event before.
    public var number: UInt64
    /// When.
    public var time: String
    /// What it is about.
    public var kind: Kind
    /// What happened.
    public var message: String
}

/// What `GET /v1/events` answers.
public struct GroupEvents: Codable, Sendable, Hashable {
    /// The VMM process: another one counts its events anew.
    public var process: Int32
    /// The events behind the number that was asked for, oldest first.
    public var events: [GroupEvent]
    /// The number of the newest event there is.
    public var latest: UInt64
    /// Events behind that number that are no longer kept.
    public var lost: UInt64
}

/// The last events of a group, a bounded number of them.
struct EventJournal: Sendable {
    /// Events that are kept.
    static let eventsMax = 512
    /// Characters of a message.
    static let messageMax = 1000
    private var events: [GroupEvent] = []
    private(set) var latest: UInt64 = 0

    mutating func append(_ kind: GroupEvent.Kind, _ message: String, time: String) {
        latest += 1
        if events.count == EventJournal.eventsMax { events.removeFirst() }
        events.append(GroupEvent(number: latest, time: time, kind: kind, message: String(message.prefix(EventJournal.messageMax))))
    }

    /// The events behind a number; one that was never given counts as none.
    func events(after number: UInt64, process: Int32) -> GroupEvents {
        let number = number > latest ? 0 : number
        let found = events.filter { $0.number > number }
        let expected = latest - number
        return GroupEvents(process: process, events: found, latest: latest, lost: expected - UInt64(found.count))
    }
}

/// What the user should know though the group runs.
public struct GroupWarning: Codable, Sendable, Hashable {
    /// Those that are kept: the last ones.
    public static let countMax = 32

    /// When it was said; nil for one of an older program.
    public var time: String?
    /// What it says.
    public var message: String

    /// A warning of now.
    public init(_ message: String) {
        time = Timestamp.now()
        self.message = message
    }

    private enum CodingKeys: CodingKey { case time, message }

    /// Reads a warning; a bare text is one, too.
    public init(from decoder: any Decoder) throws {
        if let text = try? decoder.singleValueContainer().decode(String.self) {
            (time, message) = (nil, text)
        } else {
            let container = try decoder.container(keyedBy: CodingKeys.self)
            time = try container.decodeIfPresent(String.self, forKey: .time)
            message = try container.decode(String.self, forKey: .message)
        }
    }
}
