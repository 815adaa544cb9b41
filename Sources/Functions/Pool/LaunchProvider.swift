/// Where the instances of a function are launched from.
public struct FunctionLaunch: Hashable, Sendable {
    /// The digest of the runtime's launch image, for which machines are made ahead.
    public var runtime: String
    /// The digest of the function's own.
    public var digest: String

    /// Names two launch images.
    public init(runtime: String, digest: String) {
        self.runtime = runtime
        self.digest = digest
    }
}

/// Finds the launch images of functions, and makes those that are missing or damaged.
public protocol LaunchProvider: Sendable {
    /// The directory of launch images.
    var launchPath: String { get }

    /// The launch images of a function, whole and checked; blocks, for seconds when they must be made.
    ///
    /// - Parameter claim: told each digest before its launch image is opened or made: it must not be removed from then on.
    /// - Throws: `InstanceError.restore` saying why there are none.
    func launch(_ function: DeployedFunction, claiming claim: (String) -> Void) throws(InstanceError) -> FunctionLaunch

    /// Bytes that a launch image takes of the disk; zero when it is not there.
    func bytes(ofLaunchImage digest: String) -> Int

    /// Notes on the disk that launch images are used, so that this is known after a restart.
    func noteUse(of launch: FunctionLaunch)

    /// Removes launch images used longest ago until the rest takes so many bytes; blocks.
    ///
    /// - Parameter letGo: asked for each: when it is in nobody's use, calls the second parameter, which removes it, and returns true.
    /// - Returns: the bytes of what is left, by digest, and what was removed.
    func trim(to bytesMax: Int, _ letGo: (_ digest: String, _ remove: () -> Void) -> Bool) -> (kept: [String: Int], removed: [String])

    /// Removes all launch images but those of some functions; blocks.
    ///
    /// - Parameter kept: the functions and launch images to keep, asked for when it has been noted what there is.
    /// - Returns: the digests of the launch images that are of use.
    /// - Throws: `InstanceError.restore` when the store does not tell; nothing was removed then.
    func removeUnused(
        keeping kept: () -> (functions: [DeployedFunction], launches: [FunctionLaunch])
    ) throws(InstanceError) -> Set<String>
}

/// How full the cache of launch images is.
public struct LaunchCacheReport: Codable, Hashable, Sendable {
    /// Launch images there are.
    public var images: Int
    /// Bytes they take of the disk.
    public var bytes: Int
    /// Bytes they may take; those in use may take more.
    public var bytesMax: Int
    /// Launch images that were removed because there was no room, since the gateway was started.
    public var evicted: Int
}
