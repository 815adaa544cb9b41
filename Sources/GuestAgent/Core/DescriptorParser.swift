#if !hasFeature(Embedded)
    public import AgentProtocol
#endif

/// Reads the links of `/proc/PID/fd` and the texts of `/proc/PID/fdinfo`.
public enum DescriptorParser {
    /// The most members of one epoll set that are kept.
    public static let membersMax = 4_096

    /// What a link names, with `mode` of stat(2) for those that are paths.
    public static func kind(link: Text, mode: UInt32) -> DescriptorObject.Kind {
        if link.hasPrefix("pipe:[") { return .pipe }
        if link.hasPrefix("socket:[") { return .socket }
        if link.hasPrefix("/memfd:") { return .memoryFile }
        if link.hasPrefix("anon_inode:") { return anonymousKind(link.dropFirst(11)) }
        switch mode & 0o170000 {
        case 0o100000: return .file
        case 0o040000: return .directory
        case 0o060000: return .blockDevice
        case 0o010000: return .namedPipe
        case 0o020000: return deviceKind(link)
        default: return .other
        }
    }

    private static func anonymousKind(_ name: Text) -> DescriptorObject.Kind {
        switch name {
        case "[eventfd]": .eventCounter
        case "[timerfd]": .timer
        case "[eventpoll]": .epoll
        case "[signalfd]": .signals
        case "[pidfd]": .processHandle
        case "inotify": .inotify
        default: .other
        }
    }

    private static func deviceKind(_ link: Text) -> DescriptorObject.Kind {
        if link == "/dev/ptmx" || link == "/dev/pts/ptmx" { return .terminalMaster }
        return link.hasPrefix("/dev/pts/") || link.hasPrefix("/dev/tty") || link == "/dev/console" ? .terminal : .characterDevice
    }

    /// The number of a terminal from its path `/dev/pts/N`.
    public static func terminalNumber(link: Text) -> UInt32? {
        var scanner = TextScanner(link.bytes)
        guard scanner.take("/dev/pts/"), let number = scanner.unsigned(), scanner.isAtEnd else { return nil }
        return UInt32(exactly: number)
    }

    /// Fills offset, flags and what is special to the kind from `/proc/PID/fdinfo/N`.
    public static func parseInfo(_ text: [UInt8], into object: inout DescriptorObject) {
        var members: [EpollMember] = []
        var watches: UInt32 = 0
        var timer: (clock: Int32, remaining: UInt64, interval: UInt64)?
        var file = TextScanner(text)
        while var line = file.nextLine() {
            if line.take("pos:") {
                object.offset = line.unsigned() ?? 0
            } else if line.take("flags:") {
                object.flags = UInt32(truncatingIfNeeded: line.unsigned(8) ?? 0)
            } else if line.take("eventfd-count:") {
                object.detail = .counter(line.unsigned(16) ?? 0)
            } else if line.take("tfd:") {
                if members.count < membersMax, let member = parseMember(&line) { members.append(member) }
            } else if line.take("sigmask:") {
                object.detail = .signals(line.unsigned(16) ?? 0)
            } else if line.take("inotify wd:") {
                watches = watches &+ 1
            } else if line.take("tty-index:") {
                object.detail = .terminal(UInt32(truncatingIfNeeded: line.unsigned() ?? 0))
            } else if line.take("Pid:") {
                object.detail = .process(Int32(truncatingIfNeeded: line.number() ?? 0))
            } else if line.take("clockid:") {
                timer = (Int32(truncatingIfNeeded: line.number() ?? 0), 0, 0)
            } else if line.take("it_value: (") {
                timer?.remaining = parseTime(&line)
            } else if line.take("it_interval: (") {
                timer?.interval = parseTime(&line)
            }
        }
        if object.kind == .epoll { object.detail = .members(members) }
        if object.kind == .inotify { object.detail = .watches(watches) }
        if let timer { object.detail = .timer(clock: timer.clock, remaining: timer.remaining, interval: timer.interval) }
    }

    /// The line of one member.
    ///
    /// `        5 events:       19 data:                5  pos:0 ino:61af sdev:7`
    private static func parseMember(_ line: inout TextScanner) -> EpollMember? {
        guard let descriptor = line.number() else { return nil }
        line.skipBlanks()
        guard line.take("events:"), let events = line.unsigned(16) else { return nil }
        return EpollMember(descriptor: Int32(truncatingIfNeeded: descriptor), events: UInt32(truncatingIfNeeded: events))
    }

    /// `(1, 500000000)`: seconds and nanoseconds.
    private static func parseTime(_ line: inout TextScanner) -> UInt64 {
        guard let seconds = line.unsigned(), line.take(","), let nanoseconds = line.unsigned() else { return 0 }
        let (scaled, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
        let (sum, carry) = scaled.addingReportingOverflow(nanoseconds)
        return overflow || carry ? .max : sum
    }
}
