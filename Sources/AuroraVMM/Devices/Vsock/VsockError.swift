public import Linux

/// Why a connection into a guest could not be made.
public enum VsockError: Error, Equatable, Sendable, CustomStringConvertible {
    /// The guest has not started its vsock driver yet, or has been reset.
    case notReady
    /// Nobody in the guest listens on the port, or the guest closed the connection at once.
    case refused(port: UInt32)
    /// The guest did not answer.
    case timedOut(port: UInt32)
    /// More connections than `VsockDevice` allows.
    case tooMany
    /// The host failed.
    case host(SystemError)

    /// "Cannot connect to port N of the guest: REASON".
    public var description: String {
        switch self {
        case .notReady: "Cannot connect to the guest: its vsock driver is not ready"
        case .refused(let port): "Cannot connect to port \(port) of the guest: nobody listens there"
        case .timedOut(let port): "Cannot connect to port \(port) of the guest: it does not answer"
        case .tooMany: "Cannot connect to the guest: it has too many connections"
        case .host(let error): "\(error)"
        }
    }
}
