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

    /// The name of its launch image.
    public func digest(base: String?) -> String {
        LaunchOrigin.digest(stream: reader.reference.stream, number: reader.number, time: reader.time, base: base)
    }

    /// The name of a checkpoint's launch image: of the checkpoint's identity, the base's, and the format.
    ///
    /// - Parameter base: the digest of the launch image it is the difference to; nil for a whole one.
    public static func digest(stream: StreamIdentity, number: UInt64, time: UInt64, base: String?) -> String {
        let text = "\(LaunchManifest.currentVersion) \(stream.low) \(stream.high) \(number) \(time) \(base ?? "-")"
        return LaunchChecksum.text(of: Array(text.utf8))
    }
}
