import Linux

/// What a kind of device adds to the transport.
///
/// All calls come with the transport's lock held, so a device needs no lock of its own and is not `Sendable`.
protocol VirtioDevice: AnyObject, SendableMetatype {
    associatedtype State: Codable & Equatable & Sendable

    /// The device type the driver looks for.
    var type: VirtioDeviceType { get }
    /// Feature bits of the device; the transport adds its own.
    var features: UInt64 { get }
    /// The largest size of each queue.
    var queueSizeMaxima: [UInt16] { get }
    /// The configuration space as the driver finds it.
    var configuration: [UInt8] { get }

    /// The transport is attached to an event loop: descriptors can be watched from here on.
    func attached(to link: DeviceLink) throws(SystemError)
    /// The driver is ready: queues and features in the link are valid until `reset`.
    ///
    /// Sets up what belongs to the host. Queues are looked at in `notified`, which follows for each of them: a request that
    /// breaks a rule must not make a saved state look broken.
    func activate(_ link: DeviceLink) throws(VirtioError)
    /// The driver has put requests into a queue.
    func notified(queue: Int, _ link: DeviceLink) throws(VirtioError)
    /// A watched descriptor is ready.
    func ready(_ descriptor: Int32, _ events: EventLoop.Interest, _ link: DeviceLink) throws(VirtioError)
    /// The driver wrote into the configuration space.
    func configurationWritten(offset: Int, size: Int, value: UInt64, _ link: DeviceLink)
    /// The driver has let go; forget everything about the guest.
    ///
    /// Also called when the driver broke a rule.
    func reset(_ link: DeviceLink)

    /// What a checkpoint must hold beyond the transport's state.
    func save() -> State
    /// Takes a saved state, which is as hostile as a guest.
    ///
    /// Called before `activate`.
    func load(_ state: State) throws(DeviceStateError)
    /// Wraps the device's whole state for a checkpoint.
    static func wrap(_ state: TransportState<State>) -> VirtioDeviceState
    /// The inverse of `wrap`; nil for the state of another kind of device.
    static func unwrap(_ state: VirtioDeviceState) -> TransportState<State>?
}

extension VirtioDevice {
    func attached(to link: DeviceLink) throws(SystemError) {}
    func activate(_ link: DeviceLink) throws(VirtioError) {}
    func ready(_ descriptor: Int32, _ events: EventLoop.Interest, _ link: DeviceLink) throws(VirtioError) {}
    func configurationWritten(offset: Int, size: Int, value: UInt64, _ link: DeviceLink) {}
}

/// A device without a state beyond its transport's.
public struct EmptyDeviceState: Codable, Equatable, Sendable {
    /// The only value.
    public init() {}
}

/// What a device may use of its transport.
///
/// Only used with the transport's lock held.
final class DeviceLink {
    /// The guest's memory.
    let memory: GuestMemory
    /// Features both sides agreed on; zero while the driver is not ready.
    var features: UInt64 = 0
    /// The queues the driver has set up, by number; all nil while the driver is not ready.
    var queues: [VirtQueue?]
    /// What the device has done since it was called.
    let turn = DeviceTurn()
    /// Raises the guest's interrupt.
    let interrupt: any InterruptLine
    /// The transport; set once by it.
    weak var host: (any DeviceHost)? {
        didSet { turn.isWaitedFor = { [weak host] in host?.isWaitedFor ?? false } }
    }

    init(memory: GuestMemory, interrupt: any InterruptLine, queueCount: Int) {
        self.memory = memory
        self.interrupt = interrupt
        queues = Array(repeating: nil, count: queueCount)
    }

    func queue(_ index: Int) -> VirtQueue? { index < queues.count ? queues[index] : nil }

    func has(_ feature: UInt64) -> Bool { features & feature == feature }

    /// Shows completed requests to the driver and interrupts it if it wants that.
    func publish(_ queue: VirtQueue) {
        if queue.publish() { interrupt.trigger() }
    }

    /// Serves one queue until it is empty or the turn is over; the rest follows in another turn.
    ///
    /// - Parameter body: carries a request out and answers how many bytes it wrote; nil when the rest of it is left for another turn, which
    ///   begins with the same request.
    func serve(_ queue: VirtQueue, with chain: DescriptorChain, _ body: (DescriptorChain) throws(VirtioError) -> Int?) throws(VirtioError) {
        queue.disableNotifications()
        repeat {
            var completed = 0
            while !turn.isOver, try queue.pop(into: chain) {
                guard let written = try body(chain) else {
                    queue.undoPop()
                    break
                }
                queue.complete(head: chain.head, written: written)
                completed += 1
                // The guest goes on with these while the rest is served.
                if completed % 16 == 0 { publish(queue) }
            }
            if completed % 16 != 0 { publish(queue) }
            // Looking costs too: an index that changes all the time must not keep this loop going.
            turn.spend(DeviceTurn.requestCost)
            if turn.isOver {
                host?.serveAgain(queue: queue.index)
                return
            }
        } while queue.enableNotifications()
    }
}

/// The services of a transport that a device reaches through its link.
protocol DeviceHost: AnyObject {
    /// Has `ready` called when the descriptor is; replaces an earlier interest.
    func watch(_ descriptor: Int32, _ interest: EventLoop.Interest) throws(SystemError)
    /// Ends `watch`; must come before the descriptor is closed.
    func unwatch(_ descriptor: Int32)
    /// Has `notified` called again soon.
    func serveAgain(queue: Int)
    /// Whether somebody waits for handlers to come to rest.
    var isWaitedFor: Bool { get }
    /// Shows a new configuration space to the driver, with or without an interrupt.
    func changeConfiguration(_ bytes: [UInt8], tellingDriver: Bool)
}
