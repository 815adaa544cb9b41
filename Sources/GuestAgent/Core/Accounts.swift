#if !hasFeature(Embedded)
    public import AgentProtocol
#endif

/// Who a program runs as.
public struct Identity: Equatable, Sendable {
    /// The user's number.
    public var user: UInt32
    /// The primary group's number.
    public var group: UInt32
    /// Supplementary groups.
    public var groups: [UInt32]
    /// The home directory; `/` when the user has no entry.
    public var home: Text

    /// The superuser.
    public static var root: Identity { Identity(user: 0, group: 0, groups: [], home: "/root") }
}

/// Finds users and groups in the texts of `/etc/passwd` and `/etc/group`.
public enum Accounts {
    /// The most supplementary groups taken over (`NGROUPS_MAX` of old kernels is enough here).
    public static let groupsMax = 64

    /// Resolves `user[:group]`, each by name or number; nil when a name is unknown or a number out of range.
    ///
    /// A number without an entry is allowed: the group is then 0 and the home `/`, as container engines do it.
    public static func resolve(_ wanted: Text, passwd: [UInt8], group groupFile: [UInt8]) -> Identity? {
        guard !wanted.isEmpty else { return .root }
        var scanner = TextScanner(wanted.bytes)
        let userPart = scanner.field(upTo: UInt8(ascii: ":"))
        let rest = scanner.rest()
        let userText = userPart ?? rest
        let groupText = userPart == nil ? Text() : rest
        guard !userText.isEmpty, userPart == nil || !groupText.isEmpty else { return nil }

        let number = identifier(userText)
        var identity = Identity(user: number ?? 0, group: 0, groups: [], home: "/")
        var name = Text()
        if let entry = user(named: userText, number: number, passwd: passwd) {
            identity.user = entry.user
            identity.group = entry.group
            identity.home = entry.home
            name = entry.name
        } else if number == nil {
            return nil
        }
        if groupText.isEmpty {
            if !name.isEmpty { identity.groups = supplementary(of: name, group: groupFile) }
        } else if let known = groupNumber(named: groupText, group: groupFile) ?? identifier(groupText) {
            identity.group = known
        } else {
            return nil
        }
        return identity
    }

    private struct Entry {
        var name: Text
        var user: UInt32
        var group: UInt32
        var home: Text
    }

    private static func identifier(_ text: Text) -> UInt32? {
        var scanner = TextScanner(text.bytes)
        // The all-ones number means "no change" to the kernel.
        guard let value = scanner.unsigned(), scanner.isAtEnd, value < UInt64(UInt32.max) else { return nil }
        return UInt32(value)
    }

    private static func user(named wanted: Text, number: UInt32?, passwd: [UInt8]) -> Entry? {
        let colon = UInt8(ascii: ":")
        var file = TextScanner(passwd)
        var byNumber: Entry?
        while var line = file.nextLine() {
            guard let name = line.field(upTo: colon), line.field(upTo: colon) != nil,
                let user = line.field(upTo: colon).flatMap(identifier), let group = line.field(upTo: colon).flatMap(identifier),
                line.field(upTo: colon) != nil, let home = line.field(upTo: colon)
            else { continue }
            let entry = Entry(name: name, user: user, group: group, home: home.isEmpty ? "/" : home)
            if name == wanted { return entry }
            if user == number, byNumber == nil { byNumber = entry }
        }
        return byNumber
    }

    private static func groupNumber(named wanted: Text, group: [UInt8]) -> UInt32? {
        let colon = UInt8(ascii: ":")
        var file = TextScanner(group)
        while var line = file.nextLine() {
            guard let name = line.field(upTo: colon), line.field(upTo: colon) != nil else { continue }
            if name == wanted { return line.field(upTo: colon).flatMap(identifier) }
        }
        return nil
    }

    private static func supplementary(of user: Text, group: [UInt8]) -> [UInt32] {
        let colon = UInt8(ascii: ":")
        var numbers: [UInt32] = []
        var file = TextScanner(group)
        while var line = file.nextLine(), numbers.count < groupsMax {
            guard line.field(upTo: colon) != nil, line.field(upTo: colon) != nil,
                let number = line.field(upTo: colon).flatMap(identifier)
            else { continue }
            while !line.isAtEnd {
                let member = line.field(upTo: UInt8(ascii: ",")) ?? line.rest()
                if member == user {
                    numbers.append(number)
                    break
                }
            }
        }
        return numbers
    }
}
