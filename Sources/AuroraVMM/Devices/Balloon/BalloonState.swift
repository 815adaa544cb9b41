/// What a checkpoint holds of a balloon.
public struct BalloonState: Codable, Equatable, Sendable {
    /// Pages the host asks the guest to give.
    public var targetPages: UInt32
    /// Pages the guest says it has given.
    public var actualPages: UInt32
}
