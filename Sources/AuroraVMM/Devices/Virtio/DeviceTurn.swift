/// What a device has done since it was called, in bytes copied or in what takes as long; it leaves the rest for another turn when
/// that is enough, or when a checkpoint waits for it.
///
/// A request that offers gigabytes, in overlapping parts, must not keep other devices, checkpoints and the end of the machine waiting.
/// Confined to whoever holds the device's lock.
final class DeviceTurn {
    /// Of one turn: two milliseconds, more or less.
    static let bytesMax = 8 << 20
    /// What a request costs beside its bytes: 512 empty ones make a turn.
    static let requestCost = 16 << 10
    /// What looking at a descriptor costs.
    static let descriptorCost = 64
    /// The most that may be done without asking whether the turn is over.
    static let pieceBytesMax = 256 << 10

    private(set) var spent = 0
    /// Whether somebody waits for the device to come to rest.
    var isWaitedFor: () -> Bool = { false }

    /// A call of the device begins.
    func begin() { spent = 0 }

    func spend(_ bytes: Int) { spent += bytes }

    /// Whether the rest is to be left for another turn; never before anything was done.
    var isOver: Bool { spent >= DeviceTurn.bytesMax || (spent > 0 && isWaitedFor()) }
}
