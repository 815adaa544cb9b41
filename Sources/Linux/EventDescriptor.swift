internal import CLinux

/// An eventfd: a counter that one side raises and the other side waits for.
///
/// Safe to share between threads.
public final class EventDescriptor: Sendable {
    private let descriptor: OwnedDescriptor

    /// The descriptor's number, for epoll, `KVM_IRQFD` and `KVM_IOEVENTFD`.
    public var rawValue: Int32 { descriptor.rawValue }

    /// Creates a non-blocking eventfd whose counter is zero.
    ///
    /// - Throws: `SystemError` when the process has no room for descriptors.
    public init() throws(SystemError) {
        descriptor = OwnedDescriptor(
            adopting: Int32(try systemCall("create", "eventfd") { clinux_eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK)) }))
    }

    /// Adds one to the counter and wakes whoever waits.
    public func signal() {
        var one: UInt64 = 1
        _ = clinux_write(descriptor.rawValue, &one, 8)
    }

    /// Takes the counter's value and sets it to zero; nil when it was zero.
    @discardableResult
    public func drain() -> UInt64? {
        var value: UInt64 = 0
        return clinux_read(descriptor.rawValue, &value, 8) == 8 ? value : nil
    }
}
