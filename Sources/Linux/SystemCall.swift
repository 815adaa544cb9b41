internal import CLinux

/// An error number of the kernel, with its usual text.
public struct Errno: Error, Hashable, Sendable, RawRepresentable, CustomStringConvertible {
    /// The positive error number, as in `errno(3)`.
    public let rawValue: Int32

    /// Wraps a positive error number.
    public init(rawValue: Int32) { self.rawValue = rawValue }

    /// The kernel's text for the number, for example "No such file or directory".
    public var description: String { String(cString: strerror(rawValue)) }

    public static let interrupted = Errno(rawValue: EINTR)
    public static let wouldBlock = Errno(rawValue: EAGAIN)
    public static let notPermitted = Errno(rawValue: EPERM)
    public static let accessDenied = Errno(rawValue: EACCES)
    public static let noEntry = Errno(rawValue: ENOENT)
    public static let exists = Errno(rawValue: EEXIST)
    public static let noSpace = Errno(rawValue: ENOSPC)
    public static let invalidArgument = Errno(rawValue: EINVAL)
    public static let brokenPipe = Errno(rawValue: EPIPE)
    public static let noMemory = Errno(rawValue: ENOMEM)
    public static let inputOutput = Errno(rawValue: EIO)
    public static let connectionRefused = Errno(rawValue: ECONNREFUSED)
    public static let connectionReset = Errno(rawValue: ECONNRESET)
    public static let timedOut = Errno(rawValue: ETIMEDOUT)
}

/// A failed system call: what was attempted, on what, and the kernel's answer.
public struct SystemError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The operation in words a user can place, for example "open".
    public let operation: String
    /// What the operation was on: a path, a device, a descriptor's role. May be empty.
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
