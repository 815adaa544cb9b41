internal import AuroraVMM
internal import CLinux
internal import FoundationEssentials
internal import Linux

/// The launch images of a data directory: made when they are asked for, checked when they are opened first, removed when nobody wants them.
///
/// Safe for several processes at once: an image is built in a directory of its own, which is renamed when it is whole and on the disk.
public struct LaunchCache: Sendable {
    static let newPrefix = ".new-"
    private static let oldPrefix = ".old-"
    private static let attemptsMax = 3

    /// The directory of all launch images.
    public let path: String

    /// Uses a directory, and makes it when it is not there.
    ///
    /// - Throws: `LaunchError.system`.
    public init(path: String) throws(LaunchError) {
        self.path = path
        let result = clinux_mkdir(path, 0o700)
        if result < 0, result != -Int(EEXIST) { try launchCall("create directory", path) { result } }
    }

    /// The directory of a launch image.
    public func directory(_ digest: String) -> String { "\(path)/\(digest)" }

    /// The launch image of a checkpoint, whole or as what differs from another one's; made when it is missing or damaged.
    ///
    /// - Throws: `LaunchError` for a checkpoint that cannot be read or launched from.
    public func ensure(_ origin: LaunchOrigin, base: (origin: LaunchOrigin, image: LaunchImage)? = nil) throws(LaunchError) -> LaunchImage {
        let digest = origin.digest(base: base?.image.manifest.digest)
        var last = LaunchError.missing(directory(digest))
        for _ in 0..<LaunchCache.attemptsMax {
            do throws(LaunchError) { return try open(digest) } catch {
                guard error.isOfTheCache else { throw error }
                last = error
            }
            if case .damaged = last { remove(digest) }
            if case .missing = last, clinux_access(directory(digest), F_OK) == 0 { remove(digest) }
            try LaunchBuilder(cache: self, origin: origin, base: base, digest: digest).build()
        }
        throw last
    }

    /// Opens a launch image and checks every file of it.
    ///
    /// - Throws: `LaunchError.missing` or `.damaged`, naming the file.
    public func open(_ digest: String) throws(LaunchError) -> LaunchImage {
        let image = try LaunchImage(directory: directory(digest))
        guard image.manifest.digest == digest else { throw .damaged(directory(digest), reason: "it is of another launch image") }
        try image.verify()
        return image
    }

    /// The digests of all launch images there are.
    public var digests: [String] {
        ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).filter { !$0.hasPrefix(".") }.sorted()
    }

    /// Removes a launch image; who has it open keeps what is mapped.
    public func remove(_ digest: String) {
        let aside = "\(path)/\(LaunchCache.oldPrefix)\(digest)-\(getpid())-\(clinux_monotonic_nanoseconds())"
        guard clinux_rename(directory(digest), aside) == 0 else { return }
        LaunchCache.removeTree(aside)
    }

    /// Removes all launch images but some, and what interrupted builders left.
    ///
    /// - Parameter kept: what to keep, asked for when it has been noted what there is: what is made meanwhile is not touched.
    /// - Returns: the digests that were removed.
    /// - Throws: what `kept` throws; nothing was removed then.
    @discardableResult
    public func removeUnused<Failure: Error>(keeping kept: () throws(Failure) -> Set<String>) throws(Failure) -> [String] {
        let names = ((try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []).sorted()
        let kept = try kept()
        var removed: [String] = []
        for name in names where !name.hasPrefix(".") && !kept.contains(name) {
            remove(name)
            removed.append(name)
        }
        for name in names where name.hasPrefix(LaunchCache.oldPrefix) { LaunchCache.removeTree("\(path)/\(name)") }
        // While somebody builds, nobody can tell which of these are being filled: they stay until the next time.
        guard let lock = try? builders(LOCK_EX | LOCK_NB) else { return removed }
        for name in names where name.hasPrefix(LaunchCache.newPrefix) { LaunchCache.removeTree("\(path)/\(name)") }
        // By itself: a child that is just being started still holds the descriptor.
        _ = clinux_flock(lock.rawValue, LOCK_UN)
        return removed
    }

    /// The lock that builders share, and that keeps them out when it is taken alone.
    func builders(_ operation: Int32) throws(LaunchError) -> OwnedDescriptor {
        let file: OwnedDescriptor
        let name = "\(path)/.lock"
        do throws(SystemError) { file = try .open(name, O_RDWR | O_CREAT) } catch { throw .system(error) }
        let number = file.rawValue
        var result = clinux_flock(number, operation)
        while result == -Int(EINTR) { result = clinux_flock(number, operation) }
        try launchCall("lock", name) { Int(result) }
        return file
    }

    /// Removes a directory of files.
    static func removeTree(_ path: String) { try? FileManager.default.removeItem(atPath: path) }
}
