internal import Linux

/// Finds in the log of a recipe why it failed.
enum RecipeLog {
    /// What dpkg says before the names of the packages that it could not install.
    private static let failedPackages = "Errors were encountered while processing:"
    private static let processing = "dpkg: error processing package "

    /// The reason in words, the most telling there is; nil for a log without lines.
    ///
    /// What a package's script said, with the package's name; else apt's own reason ("E: Unable to locate package x"), which says more than
    /// the recipe's last line.
    static func reason(_ lines: [Substring]) -> String? {
        if let failed = packageFailure(lines) { return failed }
        let own = lines.last { $0.hasPrefix("E: ") && !$0.contains("apt-get") && !$0.contains("mmdebstrap") }?.dropFirst(3)
        return (own ?? lines.last).map(plain)
    }

    /// "Package x cannot be installed: what it said".
    private static func packageFailure(_ lines: [Substring]) -> String? {
        guard let index = lines.lastIndex(where: { $0.hasPrefix(failedPackages) }) else { return nil }
        let names = lines[(index + 1)...].prefix { $0.hasPrefix(" ") }.map { $0.drop { $0 == " " } }
        guard let name = names.first else { return nil }
        let all = names.map { plain($0.prefix { $0 != ":" }) }.joined(separator: ", ")
        let subject = names.count == 1 ? "Package \(all)" : "Packages \(all)"
        guard let place = lines.firstIndex(where: { $0.hasPrefix("\(processing)\(name) ") }) else {
            return "\(subject) cannot be installed"
        }
        // Before it stands what the package's script said last, behind it what dpkg makes of that.
        let said = lines[..<place].last.map(plain) ?? ""
        let what = lines[(place + 1)...].first.map { plain($0.drop { $0 == " " }) } ?? ""
        return "\(subject) cannot be installed: \([said, what].filter { !$0.isEmpty }.joined(separator: "; "))"
    }

    /// Foreign text as a part of a message, not longer than a line.
    private static func plain(_ text: Substring) -> String { String(text.unicodeScalars.prefix(lengthMax)).visibleLine }
    private static let lengthMax = 300
}
