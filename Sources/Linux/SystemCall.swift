internal import CLinux

/// An error number of the kernel, with its usual text.
public struct Errno: Error, Hashable, Sendable, RawRepresentable, CustomStringConvertible {
    /// The positive error number, as in `errno(3)`.
    public let rawValue: Int32

    /// Wraps a positive error number.
    public init(rawValue: Int32) { self.rawValue = rawValue }

    /// The kernel's text for the number, for example "No such file or directory".
    public var description: String {
        let text = String(cString: strerror(rawValue))
        return self == .fileTooLarge ? "\(text): a limit of this process (ulimit -f, LimitFSIZE of a service) or of the file system" : text
    }

    /// `EINTR`: a signal arrived first.
    public static let interrupted = Errno(rawValue: EINTR)
    /// `EAGAIN`: nothing can be done without waiting.
    public static let wouldBlock = Errno(rawValue: EAGAIN)
    /// `EPERM`: the operation needs a privilege.
    public static let notPermitted = Errno(rawValue: EPERM)
    /// `EACCES`: the file or device may not be used by this user.
    public static let accessDenied = Errno(rawValue: EACCES)
    /// `ENOENT`: no such file.
    public static let noEntry = Errno(rawValue: ENOENT)
    /// `EEXIST`: there is such a file already.
    public static let exists = Errno(rawValue: EEXIST)
    /// `ENOSPC`: the disk is full.
    public static let noSpace = Errno(rawValue: ENOSPC)
    /// `EFBIG`: a file may not become as large.
    public static let fileTooLarge = Errno(rawValue: EFBIG)
    /// `EINVAL`: the kernel does not accept an argument.
    public static let invalidArgument = Errno(rawValue: EINVAL)
    /// `EPIPE`: the reader has gone.
    public static let brokenPipe = Errno(rawValue: EPIPE)
    /// `ENOMEM`: the kernel has no memory for it.
    public static let noMemory = Errno(rawValue: ENOMEM)
    /// `EIO`: a device failed.
    public static let inputOutput = Errno(rawValue: EIO)
    /// `ECONNREFUSED`: nobody listens.
    public static let connectionRefused = Errno(rawValue: ECONNREFUSED)
    /// `ECONNRESET`: the peer broke the connection.
    public static let connectionReset = Errno(rawValue: ECONNRESET)
    /// `ETIMEDOUT`: no answer in time.
    public static let timedOut = Errno(rawValue: ETIMEDOUT)
}

/// A failed system call: what was attempted, on what, and the kernel's answer.
public struct SystemError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The operation in words a user can place, for example "open".
    public let operation: String
    /// What the operation was on: a path, a device, a descriptor's role.
    ///
    /// May be empty.
    public let subject: String
    /// The kernel's answer.
    public let errno: Errno

    /// Describes a failed system call.
    public init(_ operation: String, _ subject: String = "", errno: Errno) {
        self.operation = operation
        self.subject = subject
        self.errno = errno
    }

    /// "Cannot OPERATION SUBJECT: REASON", the form every message of Aurora has.
    public var description: String {
        subject.isEmpty ? "Cannot \(operation): \(errno)" : "Cannot \(operation) \(subject): \(errno)"
    }
}

/// Turns the `-errno` convention of CLinux into a value or a typed error; retries calls that a signal interrupted.
///
/// - Throws: `SystemError` naming `operation` and `subject`.
@inline(__always) @discardableResult
public func systemCall(
    _ operation: @autoclosure () -> String, _ subject: @autoclosure () -> String = "", _ body: () -> Int
) throws(SystemError) -> Int {
    while true {
        let result = body()
        if result >= 0 { return result }
        if result == -Int(EINTR) { continue }
        throw SystemError(operation(), subject(), errno: Errno(rawValue: Int32(truncatingIfNeeded: -result)))
    }
}
