internal import CLinux

/// What this process was started with, byte for byte.
public enum OwnProcess {
    /// The arguments, the program's name first; see `ByteText`.
    public static var arguments: [String] {
        (0..<Int(CommandLine.argc)).compactMap { index in CommandLine.unsafeArgv[index].map(text) }
    }

    /// The variables; see `ByteText`.
    public static var environment: [String: String] {
        var all: [String: String] = [:]
        for entry in entries {
            guard let equals = entry.firstIndex(of: UInt8(ascii: "=")) else { continue }
            all[ByteText.string(entry[..<equals])] = ByteText.string(entry[(equals + 1)...])
        }
        return all
    }

    /// Variables that a process of ours gets from whoever starts it: where things are, in which language and time zone.
    ///
    /// Keys, tokens and all else that a login or a service manager puts there are none of its business.
    private static let passedNames: Set<String> = [
        "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "SWIFT_BACKTRACE", "TMPDIR", "TZ", "XDG_DATA_HOME",
        "XDG_RUNTIME_DIR",
    ]
    private static let ownPrefix = "AURORA_"

    /// `NAME=value` entries for a process of ours: the few variables that it needs.
    ///
    /// - Parameter also: further names, for a program of somebody else.
    public static func passedEnvironment(also names: Set<String> = []) -> [[UInt8]] {
        entries.filter { entry in
            let name = String(decoding: entry.prefix { $0 != UInt8(ascii: "=") }, as: UTF8.self)
            if names.contains(name) || passedNames.contains(name) { return true }
            return name.hasPrefix(ownPrefix) && !name.contains("TOKEN")
        }
    }

    private static var entries: [[UInt8]] {
        var entries: [[UInt8]] = []
        guard var next = clinux_environment() else { return entries }
        while let entry = next.pointee {
            entries.append(bytes(entry))
            next += 1
        }
        return entries
    }

    private static func text(_ word: UnsafeMutablePointer<CChar>) -> String { ByteText.string(bytes(word)) }

    private static func bytes(_ word: UnsafeMutablePointer<CChar>) -> [UInt8] {
        Array(UnsafeRawBufferPointer(start: word, count: strlen(word)))
    }
}
