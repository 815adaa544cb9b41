/// A virtqueue's set-up and progress: what a driver wrote into the queue's registers and how far the device came.
public struct QueueState: Codable, Equatable, Sendable {
    /// Entries of the queue; the device's maximum until the driver says otherwise.
    public var size: UInt32
    /// Whether the driver has enabled the queue.
    public var isReady = false
    /// Guest-physical address of the descriptor table.
    public var descriptorTable: UInt64 = 0
    /// Guest-physical address of the available ring.
    public var driverRing: UInt64 = 0
    /// Guest-physical address of the used ring.
    public var deviceRing: UInt64 = 0
    /// The available-ring index the device takes next.
    public var nextAvailable: UInt16 = 0
    /// The used-ring index the device fills next.
    public var nextUsed: UInt16 = 0

    /// The set-up of a queue nobody has touched.
    public init(size: UInt16) { self.size = UInt32(size) }
}
