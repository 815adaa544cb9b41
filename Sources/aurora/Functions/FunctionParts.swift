import Functions
import Groups

/// What a gateway has functions built and instances restored by.
struct FunctionParts: Sendable {
    /// Restores instances in machines made ahead.
    let source: InstancePool
    /// Builds functions, each in a process of its own.
    let builder: BuildProcess

    /// The parts that use a data directory and its store.
    init(_ data: DataDirectory, poolSize: Int, launchBytesMax: Int? = nil) throws {
        var pool = PoolConfiguration()
        pool.readyMax = poolSize
        if let launchBytesMax { pool.launchBytesMax = launchBytesMax }
        source = try InstancePool(FunctionLaunches(data, storePath: data.storePath), pool)
        builder = BuildProcess(data)
    }

    /// Ends all hosts and machines.
    func end() { source.end() }
}
