internal import CLinux

/// The only owner of a file descriptor: it is closed when the owner goes away.
public struct OwnedDescriptor: ~Copyable, Sendable {
    /// The descriptor's number, valid as long as this owner lives.
    public let rawValue: Int32

    /// Takes ownership of an open descriptor.
    public init(adopting rawValue: Int32) { self.rawValue = rawValue }

    deinit { _ = close(rawValue) }

    /// Gives the number away; the caller must close it.
    public consuming func release() -> Int32 {
        let number = rawValue
        discard self
        return number
    }

    /// Opens a file, close-on-exec always added.
    ///
    /// - Throws: `SystemError` with the path.
    public static func open(_ path: String, _ flags: Int32, mode: UInt32 = 0o600) throws(SystemError) -> OwnedDescriptor {
        OwnedDescriptor(
            adopting: Int32(try systemCall("open", path) { clinux_open(path, flags | O_CLOEXEC, mode) }))
    }

    /// A second owner of a shared open file.
    ///
    /// - Throws: `SystemError` when the process has no room for descriptors.
    public static func duplicate(of descriptor: SharedDescriptor) throws(SystemError) -> OwnedDescriptor {
        OwnedDescriptor(
            adopting: Int32(try systemCall("duplicate", "descriptor") { clinux_fcntl(descriptor.rawValue, F_DUPFD_CLOEXEC, 0) }))
    }

    /// A second owner of the same open file.
    ///
    /// - Throws: `SystemError` when the process has no room for descriptors.
    public borrowing func duplicate() throws(SystemError) -> OwnedDescriptor {
        let number = rawValue
        return OwnedDescriptor(
            adopting: Int32(try systemCall("duplicate", "descriptor") { clinux_fcntl(number, F_DUPFD_CLOEXEC, 0) }))
    }
}
