internal import CLinux
internal import FoundationEssentials
internal import Linux

extension LaunchCache {
    /// A launch image as it lies on the disk.
    public struct Entry: Hashable, Sendable {
        /// Its name.
        public var digest: String
        /// What its files take of the disk.
        public var bytes: Int
        /// When it was used last, nanoseconds since 1970.
        public var usedAt: Int64
    }

    /// All launch images there are, those used longest ago first.
    public var entries: [Entry] {
        digests.compactMap { entry($0) }.sorted { ($0.usedAt, $0.digest) < ($1.usedAt, $1.digest) }
    }

    /// What a launch image takes of the disk; nil when it is not there.
    public func entry(_ digest: String) -> Entry? {
        let directory = directory(digest)
        guard let own = LaunchCache.status(directory) else { return nil }
        let names = (try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []
        let files = names.compactMap { LaunchCache.status("\(directory)/\($0)") }
        let blocks = files.reduce(Int(own.st_blocks)) { $0 + Int($1.st_blocks) }
        return Entry(
            digest: digest, bytes: blocks * 512, usedAt: Int64(own.st_mtim.tv_sec) * 1_000_000_000 + Int64(own.st_mtim.tv_nsec))
    }

    /// Notes that a launch image is used; of one that is not there, nothing.
    ///
    /// - Parameter time: nanoseconds since 1970; nil: now.
    public func noteUse(_ digest: String, at time: Int64? = nil) {
        let time = max(0, time ?? clinux_wall_nanoseconds())
        _ = clinux_set_modified(AT_FDCWD, directory(digest), time / 1_000_000_000, UInt32(time % 1_000_000_000))
    }

    /// Removes the launch images that were used longest ago, until the rest takes so many bytes at most.
    ///
    /// - Parameter letGo: asked for each before it is removed: whoever finds it in nobody's use calls the second parameter, which removes
    ///   it, with what keeps others from beginning to use it meanwhile, and returns true.
    /// - Returns: what is left, which is more than `bytesMax` when all of that is in use, and the digests that were removed.
    public func trim(to bytesMax: Int, _ letGo: (String, () -> Void) -> Bool) -> (kept: [Entry], removed: [String]) {
        let entries = entries
        var bytes = entries.reduce(0) { $0 + $1.bytes }
        var removed: Set<String> = []
        for entry in entries where bytes > bytesMax && letGo(entry.digest, { remove(entry.digest) }) {
            removed.insert(entry.digest)
            bytes -= entry.bytes
        }
        return (entries.filter { !removed.contains($0.digest) }, entries.map(\.digest).filter(removed.contains))
    }

    private static func status(_ path: String) -> stat? {
        var status = stat()
        return clinux_lstatat(AT_FDCWD, path, &status) == 0 ? status : nil
    }
}
