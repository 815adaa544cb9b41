/// The version of the agent wire protocol that this source speaks.
public let agentProtocolVersion: UInt16 = 1

/// The limits of the agent protocol.
///
/// A peer that exceeds one has broken the protocol and is disconnected.
public enum AgentLimits {
    /// The vsock port on which the agent listens.
    public static let vsockPort: UInt32 = 1024
    /// The most payload bytes of one frame; longer messages are split over frames with the `more` flag.
    public static let framePayloadBytesMax = 65_536
    /// The most bytes of a request after its frames are joined.
    public static let requestBytesMax = 1_048_576
    /// The most bytes of a reply after its frames are joined.
    public static let replyBytesMax = 33_554_432
    /// Bytes of standard input that a client may send before the agent grants more.
    public static let stdinWindowBytes = 262_144
    /// The most bytes of one string on the wire.
    public static let textBytesMax = 131_072
    /// The most elements of one list on the wire, whatever it lists.
    public static let listCountMax = 262_144
    /// The most client connections the agent serves at once.
    public static let connectionsMax = 512
    /// The most processes with a session (started by a client, not yet reported) at once.
    public static let sessionsMax = 1_024
}
