public import Linux

/// A virtio-mmio device as the machine sees it, whatever the device is.
public protocol MMIOWindow: AnyObject, Sendable {
    /// What the device is.
    var deviceType: VirtioDeviceType { get }
    /// The register page, for a read-only memory slot at the window's base.
    var page: RegisterPage { get }
    /// One eventfd a queue, for `KVM_IOEVENTFD` at QueueNotify (offset 0x50, 4 bytes) with the queue's number as match.
    var queueNotifiers: [EventDescriptor] { get }
    /// What made the device ask for a reset last, for logs.
    var lastFailure: VirtioError? { get }

    /// Serves the device on a loop from now on.
    ///
    /// - Throws: `SystemError` when a descriptor cannot be watched.
    func attach(to loop: EventLoop) throws(SystemError)
    /// Ends the service; no handler begins afterwards.
    func detach()
    /// A guest's read that trapped.
    ///
    /// Never blocks.
    func read(offset: Int, size: Int) -> UInt64
    /// A guest's write that trapped.
    func write(offset: Int, size: Int, value: UInt64)
    /// Serves a queue at once; called on the loop's thread.
    func notify(queue: Int)
    /// The state for a checkpoint. vCPUs are stopped and the loop is quiescent.
    func save() -> VirtioDeviceState
    /// Takes a saved state. vCPUs are stopped and the loop is quiescent; call `kick()` before they run.
    ///
    /// - Throws: `DeviceStateError` when the state is not one that this device could have had; the device is then reset.
    func load(_ state: VirtioDeviceState) throws(DeviceStateError)
    /// Makes up for notifications and interrupts that were under way when the state was saved.
    func kick()
}
