internal import CLinux
internal import FoundationEssentials

/// Something below a data directory that nobody needs.
public struct UnusedItem: Hashable, Sendable {
    /// What it is, in a word or two: `image`, `kernel`, `unfinished build`.
    public let kind: String
    /// Its name.
    public let name: String
    /// Bytes it takes on the disk.
    public let bytes: Int

    /// Describes something of no use.
    public init(kind: String, name: String, bytes: Int) {
        self.kind = kind
        self.name = name
        self.bytes = bytes
    }
}

/// What files take on the disk, holes left out.
public enum DiskUsage {
    /// The bytes of a file, or of a directory with all that is in it; links count as themselves.
    ///
    /// What goes away meanwhile counts nothing.
    public static func bytes(_ path: String) -> Int {
        var status = stat()
        guard lstat(path, &status) == 0 else { return 0 }
        let own = Int(status.st_blocks) * 512
        guard status.st_mode & mode_t(S_IFMT) == mode_t(S_IFDIR) else { return own }
        let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
        return names.reduce(own) { $0 + bytes("\(path)/\($1)") }
    }
}

/// Builds that were killed: their private directories, beside what they would have made.
enum UnfinishedBuilds {
    /// For half a second: a process that is just being started holds its parent's locks a moment longer.
    static let attempts = 25

    /// Removes those of a directory at the next use of anything in it; one that is under way stays.
    ///
    /// What cannot be removed now is left to the next use, or to `aurora image prune`, which says why.
    static func removeLeft(in directory: String) {
        _ = try? prune(in: directory, dryRun: false, attempts: 1)
    }

    /// Finds those of a directory, and removes them unless it is only asked.
    ///
    /// A build that is under way holds its lock, and stays.
    static func prune(in directory: String, dryRun: Bool, attempts: Int = attempts) throws(ImageError) -> [UnusedItem] {
        let prefix = BuildArea.path(name: "", parent: directory).dropFirst(directory.utf8.count + 1)
        var found: [UnusedItem] = []
        for file in try Files.names(in: directory) where file.hasPrefix(prefix) {
            let name = String(file.dropFirst(prefix.count))
            guard let held = try BuildLock.acquire(BuildArea.lockPath(name: name, parent: directory), attempts: attempts, onWait: { false })
            else { continue }
            defer { withExtendedLifetime(held) {} }
            let path = "\(directory)/\(file)"
            found.append(UnusedItem(kind: "unfinished build", name: name, bytes: DiskUsage.bytes(path)))
            if !dryRun { try Files.removeTree(path) }
        }
        return found
    }
}

extension ImageStore {
    /// Removes what killed builds left and, if that is wanted, images that no group or function names; `base` stays.
    ///
    /// - Parameters:
    ///   - all: images without use, too. Who built one may want it yet, so that it is not the default.
    ///   - dryRun: only tells.
    /// - Returns: what was, or would be, removed; an image that somebody begins to use, or builds, meanwhile is left.
    /// - Throws: `ImageError.system`.
    public func prune(all: Bool, dryRun: Bool) throws(ImageError) -> [UnusedItem] {
        var found = try UnfinishedBuilds.prune(in: directory, dryRun: dryRun)
        guard all else { return found }
        for entry in try list() where entry.name != .base {
            guard try users(of: entry.name).isEmpty else { continue }
            let bytes = DiskUsage.bytes(path(entry.name))
            do throws(ImageError) {
                if !dryRun { try remove(entry.name) }
            } catch {
                if error.isOfSomebodyElse { continue }
                throw error
            }
            found.append(UnusedItem(kind: "image", name: entry.name.description, bytes: bytes))
        }
        return found
    }
}

extension ImageError {
    /// Whether somebody uses, builds or has just removed what was to go.
    fileprivate var isOfSomebodyElse: Bool {
        switch self {
        case .inUse, .beingBuilt, .notFound: true
        default: false
        }
    }
}

extension KernelStore {
    /// Removes kernels that guests do not boot any more, and what killed builds left.
    ///
    /// Groups that run, and checkpoints, have theirs in memory.
    ///
    /// - Parameter dryRun: only tells.
    /// - Returns: what was, or would be, removed.
    /// - Throws: `ImageError.system`.
    public func prune(dryRun: Bool) throws(ImageError) -> [UnusedItem] {
        var found = try UnfinishedBuilds.prune(in: directory, dryRun: dryRun)
        // A kernel that has been built but is not current yet is behind the lock. Without a current one nobody can tell what is old.
        guard let current = try? current(), let held = try acquire() else { return found }
        defer { withExtendedLifetime(held) {} }
        for name in try Files.names(in: directory) where !name.hasPrefix(".") && name != "current" && name != current.manifest.version {
            let path = "\(directory)/\(name)"
            found.append(UnusedItem(kind: "kernel", name: name, bytes: DiskUsage.bytes(path)))
            if !dryRun { try Files.removeTree(path) }
        }
        return found
    }

    private func acquire() throws(ImageError) -> BuildLock? {
        guard Files.exists(directory) else { return nil }
        return try BuildLock.acquire(
            BuildArea.lockPath(name: KernelStore.name, parent: directory), attempts: UnfinishedBuilds.attempts, onWait: { false })?.lock
    }
}
