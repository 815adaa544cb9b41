internal import CLinux

/// A userfaultfd for missing pages: who touches a page of a registered range that is not there waits until it is filled.
///
/// Safe to share between threads. Source: Documentation/admin-guide/mm/userfaultfd.rst of Linux.
public final class UserFaults: Sendable {
    /// What became of a request to fill pages.
    public enum Filled: Sendable, Hashable {
        /// This many bytes from the start are there now.
        case bytes(Int)
        /// The first page had been there before.
        case exists
        /// The address space was being changed: try again.
        case busy
    }

    /// Messages taken at once, at most.
    public static let batchMax = 16
    private let descriptor: OwnedDescriptor

    /// Opens a userfaultfd that sees the faults of the kernel's own accesses, too, as KVM needs it.
    ///
    /// - Throws: `SystemError`: an ordinary user needs access to /dev/userfaultfd (or `vm.unprivileged_userfaultfd`).
    public init() throws(SystemError) {
        var result = cuffd_open()
        if result == -Int(EPERM) { result = cuffd_open_device() }
        descriptor = OwnedDescriptor(adopting: Int32(try systemCall("open", "/dev/userfaultfd") { result }))
        let number = descriptor.rawValue
        try systemCall("agree on the version of", "userfaultfd") { cuffd_agree(number) }
    }

    /// Watches a mapping: from now on its missing pages are for `fill` and `zero`.
    ///
    /// - Throws: `SystemError`.
    public func register(_ mapping: Mapping, what: String) throws(SystemError) {
        let number = descriptor.rawValue
        try systemCall("watch", what) { cuffd_register_missing(number, mapping.base, UInt64(mapping.count)) }
    }

    /// Watches a mapping no longer; who waits for a page of it goes on with zeros.
    public func unregister(_ mapping: Mapping) { _ = cuffd_unregister(descriptor.rawValue, mapping.base, UInt64(mapping.count)) }

    /// Takes the addresses of faults that wait; their number, zero when there is none.
    public func take(_ addresses: UnsafeMutableBufferPointer<UInt64>) -> Int {
        max(0, cuffd_read(descriptor.rawValue, addresses.baseAddress, Int32(min(addresses.count, UserFaults.batchMax))))
    }

    /// Returns when a fault waits or `event` was signalled; true for the event.
    public func wait(or event: EventDescriptor) -> Bool { clinux_poll_two(descriptor.rawValue, event.rawValue, -1) & 2 != 0 }

    /// Fills missing pages with bytes and wakes who waits for them.
    ///
    /// - Throws: `SystemError`, for example when the host is out of memory.
    public func fill(_ target: UnsafeMutableRawPointer, with bytes: UnsafeRawBufferPointer) throws(SystemError) -> Filled {
        try filled(cuffd_copy(descriptor.rawValue, target, bytes.baseAddress, UInt64(bytes.count)))
    }

    /// Fills missing pages with zeros, which takes no memory until they are written, and wakes who waits for them.
    ///
    /// - Throws: `SystemError`.
    public func zero(_ target: UnsafeMutableRawPointer, count: Int) throws(SystemError) -> Filled {
        try filled(cuffd_zero(descriptor.rawValue, target, UInt64(count)))
    }

    /// Wakes who waits for pages that are there.
    public func wake(_ target: UnsafeMutableRawPointer, count: Int) { _ = cuffd_wake(descriptor.rawValue, target, UInt64(count)) }

    private func filled(_ result: Int) throws(SystemError) -> Filled {
        switch result {
        case 1...: return .bytes(result)
        case -Int(EEXIST): return .exists
        case -Int(EAGAIN): return .busy
        default: throw SystemError("fill", "pages of guest memory", errno: Errno(rawValue: Int32(truncatingIfNeeded: -result)))
        }
    }
}
