public import Linux

/// How a device interrupts its guest.
public protocol InterruptLine: Sendable {
    /// Raises the interrupt once; called from any thread, never blocks.
    func trigger()
}

/// The usual line: an eventfd that `KVM_IRQFD` has bound to the guest's interrupt.
public struct EventInterruptLine: InterruptLine {
    /// The eventfd, for `KVM_IRQFD`.
    public let event: EventDescriptor

    /// A line that signals `event`.
    public init(event: EventDescriptor) { self.event = event }

    /// Signals the eventfd.
    public func trigger() { event.signal() }
}
