/// Why a device refused what its driver did.
///
/// The device then asks for a reset; nothing else happens to the VMM.
public enum VirtioError: Error, Equatable, Sendable, CustomStringConvertible {
    /// A ring or buffer is not guest memory, or is not aligned.
    case badAddress(queue: Int, what: String, address: GuestAddress, count: Int)
    /// The queue's size is zero, not a power of two, or above the device's maximum.
    case badQueueSize(queue: Int, size: UInt32)
    /// The available index ran further ahead than the queue is long.
    case indexJump(queue: Int, from: UInt16, to: UInt16)
    /// A descriptor number outside its table.
    case badDescriptor(queue: Int, number: UInt32)
    /// A chain with a loop, or with more parts than allowed.
    case chainTooLong(queue: Int, limit: Int)
    /// All parts of a chain together exceed what the used ring can express.
    case chainTooLarge(queue: Int)
    /// A device-readable part after a device-writable one.
    case readableAfterWritable(queue: Int)
    /// An indirect table that is nested, empty, ragged, chained on, or not negotiated.
    case badIndirectTable(queue: Int)
    /// A request that breaks the rules of the device.
    case badRequest(queue: Int, what: String)
    /// A host resource failed for good.
    case host(String)

    /// What the driver did, and where.
    public var description: String {
        switch self {
        case .badAddress(let queue, let what, let address, let count):
            "queue \(queue): \(what) of \(count) bytes at \(address) is not aligned guest memory"
        case .badQueueSize(let queue, let size): "queue \(queue): size \(size) is refused"
        case .indexJump(let queue, let from, let to): "queue \(queue): available index jumps from \(from) to \(to)"
        case .badDescriptor(let queue, let number): "queue \(queue): there is no descriptor \(number)"
        case .chainTooLong(let queue, let limit): "queue \(queue): a chain loops or has more than \(limit) descriptors"
        case .chainTooLarge(let queue): "queue \(queue): a chain holds more bytes than the used ring can express"
        case .readableAfterWritable(let queue): "queue \(queue): a readable descriptor follows a writable one"
        case .badIndirectTable(let queue): "queue \(queue): an indirect table is refused"
        case .badRequest(let queue, let what): "queue \(queue): \(what)"
        case .host(let what): what
        }
    }
}

/// Why a saved device state was refused.
///
/// Saved state is as hostile as a guest.
public struct DeviceStateError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The device, for example "block".
    public let device: String
    /// What is wrong with the state.
    public let reason: String

    /// Describes a refused state.
    public init(device: String, reason: String) {
        self.device = device
        self.reason = reason
    }

    /// "Cannot load the state of DEVICE: REASON".
    public var description: String { "Cannot load the state of the \(device) device: \(reason)" }
}
