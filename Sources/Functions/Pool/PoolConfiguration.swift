/// How many machines the pool keeps ready, and how long it waits for them.
public struct PoolConfiguration: Sendable, Hashable {
    /// Machines kept ready for each runtime.
    public var readyMax = 4
    /// Machines made at once for each runtime, beyond those that somebody waits for.
    public var makingMax = 2
    /// Milliseconds after a machine was taken until another is made for it, as long as there are others: making one takes a processor
    /// for some milliseconds, which the request that took it needs.
    public var fillMilliseconds = 30
    /// The longest a machine may take to be made or restored, seconds.
    public var machineSeconds = 20
    /// Milliseconds without a request after which an instance stands still.
    public var pauseMilliseconds = 100
    /// Milliseconds that an instance whose request took too long may take to tell what memory it had.
    public var measureMilliseconds = 50
    /// Bytes of the disk that launch images may take, but for those in use: what was used longest ago is removed, and made again from the
    /// store when it is asked for.
    public var launchBytesMax = 16 << 30
    /// The program whose hidden command is the instance host.
    public var program = "/proc/self/exe"

    /// The usual values.
    public init() {}
}
