/// What a checkpoint holds of a vsock device.
///
/// Connections do not survive; the guest is told so by an event.
public struct VsockState: Codable, Equatable, Sendable {
    /// The context identifier of the guest.
    public var guestContext: UInt64
    /// Whether the guest had not yet been told of an earlier reset.
    public var isResetPending: Bool
    /// The port of the next connection that the host makes: the guest may still hold sockets of the ones before.
    public var nextHostPort: UInt32
}
