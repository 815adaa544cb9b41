#if !hasFeature(Embedded)
    public import AgentProtocol
#endif

/// Reads the texts of `/proc/PID`, as proc(5) describes them.
public enum ProcessParser {
    /// Fills a process from `/proc/PID/stat`; nil when the text is not in that form.
    ///
    /// The name may itself hold blanks and parentheses, so it ends at the last one.
    public static func parseStat(_ text: [UInt8], pageBytes: UInt64 = 4096) -> ProcessObject? {
        var scanner = TextScanner(text)
        var process = ProcessObject()
        guard let number = scanner.number(), scanner.take(" (") else { return nil }
        guard let name = scanner.field(upToLast: UInt8(ascii: ")")) else { return nil }
        process.number = Int32(truncatingIfNeeded: number)
        process.name = name
        process.state = scanner.word()
        var fields: [Int64] = []
        while fields.count < 21, let field = scanner.number() { fields.append(field) }
        guard fields.count == 21, !process.state.isEmpty else { return nil }
        process.parent = Int32(truncatingIfNeeded: fields[0])
        process.group = Int32(truncatingIfNeeded: fields[1])
        process.session = Int32(truncatingIfNeeded: fields[2])
        process.terminal = UInt32(truncatingIfNeeded: fields[3])
        process.userTicks = UInt64(clamping: fields[10])
        process.systemTicks = UInt64(clamping: fields[11])
        process.startTicks = UInt64(clamping: fields[18])
        process.virtualBytes = UInt64(clamping: fields[19])
        process.residentBytes = UInt64(clamping: fields[20]).multipliedReportingOverflow(by: pageBytes).partialValue
        return process
    }

    /// The bit of the flags field that marks a kernel thread (`PF_KTHREAD`).
    public static func isKernelThread(stat text: [UInt8]) -> Bool {
        var scanner = TextScanner(text)
        guard scanner.field(upToLast: UInt8(ascii: ")")) != nil else { return false }
        _ = scanner.word()
        // state, ppid, pgrp, session, tty_nr, tpgid; the next field is flags.
        for _ in 0..<5 { _ = scanner.number() }
        return (scanner.number() ?? 0) & 0x20_0000 != 0
    }

    /// The effective user and group from `/proc/PID/status`.
    public static func parseIdentity(status text: [UInt8]) -> (user: UInt32, group: UInt32)? {
        var user: UInt32?
        var group: UInt32?
        var file = TextScanner(text)
        while var line = file.nextLine() {
            let isUser = line.take("Uid:")
            guard isUser || line.take("Gid:") else { continue }
            line.skipBlanks()
            _ = line.unsigned()
            line.skipBlanks()
            let effective = line.unsigned().map { UInt32(truncatingIfNeeded: $0) }
            if isUser { user = effective } else { group = effective }
        }
        guard let user, let group else { return nil }
        return (user, group)
    }

    /// The arguments from `/proc/PID/cmdline`: zero-terminated strings.
    public static func parseArguments(cmdline text: [UInt8]) -> [Text] {
        var arguments: [Text] = []
        var scanner = TextScanner(text)
        while !scanner.isAtEnd { arguments.append(scanner.field(upTo: 0) ?? scanner.rest()) }
        return arguments
    }
}
