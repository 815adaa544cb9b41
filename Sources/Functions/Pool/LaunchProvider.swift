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
    /// - Throws: `InstanceError.restore` saying why there are none.
    func launch(_ function: DeployedFunction) throws(InstanceError) -> FunctionLaunch

    /// Removes all launch images but those of some functions; blocks.
    ///
    /// - Parameter kept: the functions and launch images to keep, asked for when it has been noted what there is.
    /// - Returns: the digests of the launch images that are of use.
    /// - Throws: `InstanceError.restore` when the store does not tell; nothing was removed then.
    func removeUnused(
        keeping kept: () -> (functions: [DeployedFunction], launches: [FunctionLaunch])
    ) throws(InstanceError) -> Set<String>
}
