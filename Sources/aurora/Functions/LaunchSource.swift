import CLinux
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
    ///
    /// - Parameter claim: told each digest before its launch image is opened or made.
    func images(
        runtime: String, function: String?, claiming claim: (String) -> Void = { _ in }
    ) throws -> (runtime: LaunchImage, function: LaunchImage) {
        let base = try origin(runtime)
        claim(base.digest(base: nil))
        let image = try cache.ensure(base)
        guard let function else { return (image, image) }
        let own = try origin(function)
        claim(own.digest(base: image.manifest.digest))
        return (image, try cache.ensure(own, base: (base, image)))
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

    func bytes(ofLaunchImage digest: String) -> Int { (try? LaunchCache(path: launchPath))?.entry(digest)?.bytes ?? 0 }

    func noteUse(of launch: FunctionLaunch) {
        // The runtime's after the function's, without which it is of no use: so it is the last to go.
        guard let cache = try? LaunchCache(path: launchPath) else { return }
        for digest in [launch.digest, launch.runtime] { cache.noteUse(digest) }
    }

    func trim(to bytesMax: Int, _ letGo: (String, () -> Void) -> Bool) -> (kept: [String: Int], removed: [String]) {
        guard let cache = try? LaunchCache(path: launchPath) else { return ([:], []) }
        let (kept, removed) = cache.trim(to: bytesMax, letGo)
        return (Dictionary(kept.map { ($0.digest, $0.bytes) }) { first, _ in first }, removed)
    }

    func launch(_ function: DeployedFunction, claiming claim: (String) -> Void) throws(InstanceError) -> FunctionLaunch {
        do {
            let source = try LaunchSource(try StoreAccess.openOnce(storePath), CommandContext.data)
            let runtime = function.runtimeStreamName
            let images = try source.images(runtime: runtime, function: function.streamName, claiming: claim)
            return FunctionLaunch(runtime: images.runtime.manifest.digest, digest: images.function.manifest.digest)
        } catch { throw .restore("\(error)") }
    }

    func removeUnused(
        keeping kept: () -> (functions: [DeployedFunction], launches: [FunctionLaunch])
    ) throws(InstanceError) -> Set<String> {
        do {
            guard clinux_access(launchPath, F_OK) == 0 else { return [] }
            var digests: Set<String> = []
            try LaunchCache(path: launchPath).removeUnused { () throws in
                let (functions, launches) = kept()
                digests = Set(launches.flatMap { [$0.runtime, $0.digest] })
                if !functions.isEmpty { digests.formUnion(try FunctionLaunches.digests(functions, storePath)) }
                return digests
            }
            return digests
        } catch { throw .restore("\(error)") }
    }

    /// The launch images that functions would be launched from now.
    static func digests(_ functions: [DeployedFunction], _ storePath: String) throws -> Set<String> {
        let streams = try StoreAccess.openOnce(storePath).store.streams()
        let known = Dictionary(streams.map { ($0.name, $0) }) { first, _ in first }
        func digest(_ stream: String, base: String?) -> String? {
            guard let stream = known[stream], let latest = stream.latest else { return nil }
            return LaunchOrigin.digest(stream: stream.identity, number: latest.number, time: latest.time, base: base)
        }
        var digests: Set<String> = []
        for function in functions {
            guard let runtime = digest(function.runtimeStreamName, base: nil) else { continue }
            digests.insert(runtime)
            if let own = digest(function.streamName, base: runtime) { digests.insert(own) }
        }
        return digests
    }
}
