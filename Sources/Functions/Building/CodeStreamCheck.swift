/// Checks a tar stream of a function's code while it passes through.
///
/// The stream is what `bsdtar` makes of the archive a user gave (format pax); what is in it is the user's. It is unpacked inside the
/// function's own machine, so what gets through harms nobody else; this says early and clearly what is wrong, and bounds the sizes.
public struct CodeStreamCheck: Sendable {
    /// The most bytes of all files together (Lambda's limit).
    public static let unpackedBytesMax = 250 << 20
    /// The most files, directories and links.
    public static let entriesMax = 100_000
    /// The longest path, in bytes (`PATH_MAX`).
    public static let pathBytesMax = 4096
    private static let blockBytes = 512
    private static let extensionBytesMax = 1 << 16

    /// Why an archive is refused, in words that follow "Cannot use the function's code: ".
    public struct Refusal: Error, Hashable, Sendable, CustomStringConvertible {
        /// The reason, with the entry it is about.
        public let description: String
    }

    private var block: [UInt8] = []
    /// Bytes of the entry's contents, with their padding, that are still to come.
    private var skips = 0
    private var extended: [UInt8] = []
    private var extendedLeft = 0
    /// Of the extended header that came last, for the next entry.
    private var path: String?
    private var link: String?
    private var size: Int?
    private var total = 0
    /// Entries that were seen.
    public private(set) var entries = 0
    private var hasEnded = false

    /// Starts with an empty stream.
    public init() {}

    /// Bytes of all files so far.
    public var unpackedBytes: Int { total }

    /// Looks at the next bytes of the stream.
    ///
    /// - Throws: `Refusal`; the rest need not be looked at.
    public mutating func look(_ bytes: some Collection<UInt8>) throws(Refusal) {
        var rest = bytes[...]
        while !rest.isEmpty {
            if hasEnded { return }
            if skips > 0 && extendedLeft == 0 {
                let count = min(skips, rest.count)
                rest = rest.dropFirst(count)
                skips -= count
                continue
            }
            let wanted = extendedLeft > 0 ? min(extendedLeft, rest.count) : min(CodeStreamCheck.blockBytes - block.count, rest.count)
            if extendedLeft > 0 {
                extended += rest.prefix(wanted)
                extendedLeft -= wanted
                if extendedLeft == 0 { try takeExtension() }
            } else {
                block += rest.prefix(wanted)
                if block.count == CodeStreamCheck.blockBytes { try takeHeader() }
            }
            rest = rest.dropFirst(wanted)
        }
    }

    /// The stream is over.
    ///
    /// - Throws: `Refusal` when it breaks off, or holds nothing.
    public func finish() throws(Refusal) {
        guard hasEnded || (block.isEmpty && skips == 0 && extendedLeft == 0) else { throw Refusal(description: "the archive breaks off") }
        guard entries > 0 else { throw Refusal(description: "the archive is empty") }
    }

    private mutating func takeHeader() throws(Refusal) {
        defer { block.removeAll(keepingCapacity: true) }
        guard block.contains(where: { $0 != 0 }) else {
            hasEnded = true
            return
        }
        let length = if let size { size } else { try number(124, 12) }
        guard length >= 0, length <= 1 << 40 else { throw Refusal(description: "an entry has an impossible size") }
        let type = block[156]
        let padded = (length + CodeStreamCheck.blockBytes - 1) / CodeStreamCheck.blockBytes * CodeStreamCheck.blockBytes
        if type == UInt8(ascii: "x") || type == UInt8(ascii: "g") {
            guard length <= CodeStreamCheck.extensionBytesMax else { throw Refusal(description: "an extended header is too long") }
            extended = []
            extendedLeft = length
            skips = padded - length
            return
        }
        let name = path ?? self.name()
        try check(name, type, length)
        skips = type == 0 || type == UInt8(ascii: "0") ? padded : 0
        (path, link, size) = (nil, nil, nil)
    }

    private mutating func check(_ name: String, _ type: UInt8, _ length: Int) throws(Refusal) {
        entries += 1
        guard entries <= CodeStreamCheck.entriesMax else {
            throw Refusal(description: "it has more than \(CodeStreamCheck.entriesMax) entries")
        }
        guard CodeStreamCheck.staysInside(name) else {
            throw Refusal(description: "\"\(shown(name))\" leads out of the function's directory")
        }
        switch type {
        case 0, UInt8(ascii: "0"):
            guard length <= CodeStreamCheck.unpackedBytesMax - total else {
                throw Refusal(description: "it has more than \(CodeStreamCheck.unpackedBytesMax >> 20) MiB unpacked")
            }
            total += length
        case UInt8(ascii: "5"): break
        case UInt8(ascii: "1"), UInt8(ascii: "2"):
            let target = link ?? text(157, 100)
            // A hard link's target counts from the root of the archive, a symbolic link's from where it stands.
            let folder = type == UInt8(ascii: "2") ? name.split(separator: "/").dropLast().joined(separator: "/") + "/" : ""
            guard !target.hasPrefix("/"), CodeStreamCheck.staysInside(folder + target) else {
                throw Refusal(description: "the link \"\(shown(name))\" leads out of the function's directory, to \"\(shown(target))\"")
            }
        default: throw Refusal(description: "\"\(shown(name))\" is neither a file nor a directory nor a link")
        }
    }

    /// Whether a path never climbs above where it starts.
    static func staysInside(_ path: String) -> Bool {
        guard !path.hasPrefix("/"), !path.utf8.contains(0), path.utf8.count <= pathBytesMax else { return false }
        var depth = 0
        for part in path.split(separator: "/") where part != "." {
            depth += part == ".." ? -1 : 1
            if depth < 0 { return false }
        }
        return true
    }

    /// Reads the records of an extended header: "LENGTH KEY=VALUE\n".
    private mutating func takeExtension() throws(Refusal) {
        var rest = extended[...]
        while !rest.isEmpty {
            guard let blank = rest.firstIndex(of: 32), let length = Int(String(decoding: rest[..<blank], as: UTF8.self)), length > 0,
                length <= rest.count, rest.startIndex + length > blank + 1, rest[rest.startIndex + length - 1] == 10
            else { throw Refusal(description: "an extended header is malformed") }
            let record = rest[(blank + 1)..<(rest.startIndex + length - 1)]
            rest = rest.dropFirst(length)
            guard let equals = record.firstIndex(of: UInt8(ascii: "=")) else {
                throw Refusal(description: "an extended header is malformed")
            }
            let value = String(decoding: record[(equals + 1)...], as: UTF8.self)
            switch String(decoding: record[..<equals], as: UTF8.self) {
            case "path": path = value
            case "linkpath": link = value
            case "size":
                guard let bytes = Int(value), bytes >= 0 else { throw Refusal(description: "an extended header is malformed") }
                size = bytes
            default: break
            }
        }
    }

    private func name() -> String {
        let prefix = text(345, 155)
        return prefix.isEmpty ? text(0, 100) : "\(prefix)/\(text(0, 100))"
    }

    private func text(_ start: Int, _ length: Int) -> String {
        String(decoding: block[start..<(start + length)].prefix { $0 != 0 }, as: UTF8.self)
    }

    private func number(_ start: Int, _ length: Int) throws(Refusal) -> Int {
        let digits = block[start..<(start + length)].filter { $0 != 0 && $0 != 32 }
        guard let value = Int(String(decoding: digits, as: UTF8.self), radix: 8) else { throw Refusal(description: "it is no tar stream") }
        return value
    }

    /// A name as a message shows it: short, on one line.
    private func shown(_ name: String) -> String {
        String(name.prefix(120).map { $0.isNewline || $0.asciiValue.map { $0 < 32 } ?? false ? "?" : $0 })
    }
}
