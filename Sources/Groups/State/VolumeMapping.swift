/// A file on the host that is a disk of the group, holding an ext4 file system.
public struct VolumeMapping: Hashable, Sendable, Codable {
    /// The absolute path of the file on the host.
    public var file: String
    /// Where the guest mounts it.
    public var mountPoint: String
    /// Whether writing is refused.
    public var readOnly: Bool

    /// The most volumes of a group: the disks vdb to vdp.
    public static let countMax = 15

    /// Describes a volume.
    public init(file: String, mountPoint: String, readOnly: Bool = false) {
        self.file = file
        self.mountPoint = mountPoint
        self.readOnly = readOnly
    }

    /// Reads `FILE[:PATH[:ro]]`; without a path the volume is mounted on `/volumes/` and the file's name without its suffix.
    ///
    /// - Throws: `GroupError` (`.invalidValue`).
    public init(parsing text: String, currentDirectory: String) throws(GroupError) {
        let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
        let remedy = "Write FILE, FILE:PATH or FILE:PATH:ro, for example data.ext4:/data."
        guard (1...3).contains(parts.count), !parts[0].isEmpty, parts.count < 3 || ["ro", "rw"].contains(parts[2]) else {
            throw GroupError(.invalidValue, "Invalid volume \"\(text.prefix(200))\"", remedy: remedy)
        }
        let file = parts[0].hasPrefix("/") ? parts[0] : "\(currentDirectory)/\(parts[0])"
        let name = file.split(separator: "/").last.map { String($0.prefix { $0 != "." }) } ?? ""
        let path = parts.count > 1 ? parts[1] : "/volumes/\(name.isEmpty ? "volume" : name)"
        guard path.hasPrefix("/"), path != "/" else {
            throw GroupError(.invalidValue, "Invalid mount point \"\(path.prefix(200))\" in volume \"\(text.prefix(200))\"", remedy: remedy)
        }
        self.init(file: file, mountPoint: path, readOnly: parts.count == 3 && parts[2] == "ro")
    }
}
