#if !hasFeature(Embedded)
    public import AgentProtocol
#endif

/// The words of the kernel's command line, as `/proc/cmdline` shows them.
public struct KernelCommandLine {
    /// The words; double quotes that the kernel allows around values are taken away.
    public let words: [Text]

    /// Splits a command line at blanks outside double quotes.
    public init(_ bytes: [UInt8]) {
        var words: [Text] = []
        var word: [UInt8] = []
        var quoted = false
        for byte in bytes {
            if byte == UInt8(ascii: "\"") {
                quoted.toggle()
            } else if !quoted && (byte == 32 || byte == 9 || byte == 10) {
                if !word.isEmpty { words.append(Text(word)) }
                word = []
            } else {
                word.append(byte)
            }
        }
        if !word.isEmpty { words.append(Text(word)) }
        self.words = words
    }

    /// The value of the last word `key=value`, or nil.
    public func value(of key: StaticString) -> Text? {
        let count = key.utf8CodeUnitCount
        var found: Text?
        for word in words where word.hasPrefix(key) && word.bytes.count > count && word.bytes[count] == UInt8(ascii: "=") {
            found = word.dropFirst(count + 1)
        }
        return found
    }

    /// The parameters for a module, as modprobe takes them from the command line: every word `module.name=value` without its prefix, joined
    /// by blanks.
    ///
    /// `-` and `_` are the same in module names.
    ///
    /// `aurora.root*` words are the agent's own and are left out.
    public func moduleParameters(_ module: Text) -> Text {
        var joined: [UInt8] = []
        for word in words {
            guard let dot = word.bytes.firstIndex(of: UInt8(ascii: ".")), dot == module.bytes.count else { continue }
            var same = true
            for index in 0..<dot where KernelCommandLine.folded(word.bytes[index]) != KernelCommandLine.folded(module.bytes[index]) {
                same = false
            }
            guard same, !word.hasPrefix("aurora.root") else { continue }
            if !joined.isEmpty { joined.append(32) }
            joined.append(contentsOf: word.bytes[(dot + 1)...])
        }
        return Text(joined)
    }

    private static func folded(_ byte: UInt8) -> UInt8 { byte == UInt8(ascii: "-") ? UInt8(ascii: "_") : byte }
}
