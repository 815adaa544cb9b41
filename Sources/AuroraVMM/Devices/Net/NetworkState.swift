/// What a checkpoint holds of a network device.
///
/// Frames under way are lost, as on any network.
public struct NetworkState: Codable, Equatable, Sendable {
    /// The six bytes of the Ethernet address the guest knows.
    public var macAddress: [UInt8]
}
