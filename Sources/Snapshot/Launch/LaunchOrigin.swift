public import Store

/// The checkpoint a launch image is made from.
public struct LaunchOrigin: Sendable {
    /// The checkpoint, opened.
    public var reader: CheckpointReader
    /// The machine's state, as it encoded itself.
    public var state: [UInt8]
    /// Bytes of the root disk (map 1).
    public var diskBytes: Int
    /// Whether the machine has a network device.
    public var hasNetwork: Bool

    /// Describes a checkpoint.
    public init(reader: CheckpointReader, state: [UInt8], diskBytes: Int, hasNetwork: Bool) {
        self.reader = reader
        self.state = state
        self.diskBytes = diskBytes
        self.hasNetwork = hasNetwork
    }

    /// The name of its launch image: of the checkpoint's identity, the base's, and the format.
    func digest(base: String?) -> String {
        let identity = reader.reference.stream
        let text = "\(LaunchManifest.currentVersion) \(identity.low) \(identity.high) \(reader.number) \(reader.time) \(base ?? "-")"
        return LaunchChecksum.text(of: Array(text.utf8))
    }
}
