internal import FoundationEssentials
internal import Store

/// What a launch image is: `launch.json`, a line of JSON and a line with its checksum.
public struct LaunchManifest: Codable, Hashable, Sendable {
    /// The version this source writes and reads.
    public static let currentVersion = 2
    static let fileName = "launch.json"
    static let bytesMax = 64 << 10

    /// A file of the launch image.
    public struct File: Codable, Hashable, Sendable {
        /// Its length.
        public var bytes: Int
        /// The checksum of its pages that are not zero.
        public var checksum: String
    }

    /// The version.
    public var version = LaunchManifest.currentVersion
    /// The name of the directory.
    public var digest: String
    /// The digest of the launch image this one differs from; nil for a whole one.
    public var base: String?
    /// Pages of memory, over all pieces.
    public var pages: Int
    /// Bytes of the root disk.
    public var diskBytes: Int
    /// Whether the machine has a network device.
    public var hasNetwork: Bool
    /// The stream of the store it comes from.
    public var stream: String
    /// The checkpoint's number.
    public var number: UInt64
    /// The files by name.
    public var files: [String: File]

    /// Describes what was made of a checkpoint.
    init(digest: String, base: String?, _ origin: LaunchOrigin, pages: Int, files: [String: File]) {
        self.digest = digest
        self.base = base
        self.pages = pages
        self.files = files
        diskBytes = origin.diskBytes
        hasNetwork = origin.hasNetwork
        stream = origin.reader.streamName
        number = origin.reader.number
    }

    /// The text of `launch.json`.
    func encoded() throws(LaunchError) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        do {
            let line = Array(try encoder.encode(self))
            return line + Array("\n\(LaunchChecksum.text(of: line))\n".utf8)
        } catch { throw .unsuitable("it cannot be described as JSON: \(error)") }
    }

    /// Reads the text of `launch.json`.
    ///
    /// - Throws: `LaunchError.damaged`.
    init(_ bytes: [UInt8], path: String) throws(LaunchError) {
        let parts = bytes.split(separator: UInt8(ascii: "\n"))
        guard parts.count == 2, Array(parts[1]) == Array(LaunchChecksum.text(of: Array(parts[0])).utf8) else {
            throw .damaged(path, reason: "its checksum is wrong")
        }
        do { self = try JSONDecoder().decode(LaunchManifest.self, from: Data(parts[0])) } catch {
            throw .damaged(path, reason: "it cannot be read: \(error)")
        }
        guard version == LaunchManifest.currentVersion, pages > 0, pages < 1 << 40, diskBytes > 0, diskBytes % 4096 == 0,
            diskBytes < 1 << 52,
            files.values.allSatisfy({ $0.bytes >= 0 })
        else { throw .damaged(path, reason: "its values cannot be") }
    }
}
