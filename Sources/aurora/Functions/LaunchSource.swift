import Functions
import Groups
import Snapshot
import Store

/// Finds checkpoints in the store that instances are launched from.
struct LaunchSource {
    private let access: StoreAccess
    /// The launch images.
    let cache: LaunchCache

    /// Uses a store and the launch images of a data directory.
    init(_ access: StoreAccess, _ data: DataDirectory) throws {
        self.access = access
        try DataDirectory.create(data.launchPath)
        cache = try LaunchCache(path: data.launchPath)
    }

    /// The newest checkpoint of a stream.
    func origin(_ stream: String) throws -> LaunchOrigin {
        let reader = try access.reader(stream, .latest)
        let envelope = try access.envelope(reader)
        guard envelope.context.diskBytes.count == 1, let bytes = envelope.context.diskBytes.first else {
            throw GroupError(.badState, "\(stream) has \(envelope.context.diskBytes.count) disks; an instance has its root disk only")
        }
        return LaunchOrigin(
            reader: reader, state: Array(envelope.machine), diskBytes: bytes, hasNetwork: envelope.context.hasNetwork)
    }

    /// The launch images of a runtime and of a function that was made from it.
    func images(runtime: String, function: String?) throws -> (runtime: LaunchImage, function: LaunchImage) {
        let base = try origin(runtime)
        let image = try cache.ensure(base)
        guard let function else { return (image, image) }
        return (image, try cache.ensure(try origin(function), base: (base, image)))
    }
}

/// The launch images of deployed functions, for the pool.
struct FunctionLaunches: LaunchProvider {
    let launchPath: String
    private let storePath: String

    /// Uses the store and the launch images of a data directory.
    init(_ data: DataDirectory, storePath: String) {
        launchPath = data.launchPath
        self.storePath = storePath
    }

    func launch(_ function: DeployedFunction) throws(InstanceError) -> FunctionLaunch {
        do {
            let source = try LaunchSource(try StoreAccess.openOnce(storePath), CommandContext.data)
            let runtime = function.runtimeStreamName
            let images = try source.images(runtime: runtime, function: function.streamName)
            return FunctionLaunch(runtime: images.runtime.manifest.digest, digest: images.function.manifest.digest)
        } catch { throw .restore("\(error)") }
    }
}
