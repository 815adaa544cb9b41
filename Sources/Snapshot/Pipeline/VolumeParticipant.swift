/// A volume as a part of every checkpoint of its group.
public final class VolumeParticipant: EpochParticipant {
    /// Blocks that are looked at in a call: those that are as in the base cost nothing.
    private static let lookedAtMax = 16_384

    /// The volume's map: its disk's number, from one.
    public let map: Int
    /// The volume.
    public let volume: CheckpointedVolume

    private let streamsBase: Bool

    /// Makes disk number `map`, counted from one, a part of the checkpoints.
    ///
    /// - Parameter streamsBase: false when a backend that has nothing of the group yet has what the volume began with.
    public init(_ volume: CheckpointedVolume, map: Int, streamsBase: Bool = true) {
        precondition(map > PageKey.memory && map < PageKey.mapsMax)
        self.volume = volume
        self.map = map
        self.streamsBase = streamsBase
    }

    /// Fixes the contents.
    public func freeze(_ epoch: EpochNumber) { volume.freeze() }

    /// Hands over some of the blocks that changed.
    ///
    /// - Throws: `SystemError`, or what the sink throws.
    public func collect(_ epoch: EpochNumber, from position: Int, pagesMax: Int, into sink: any PageSink) throws -> Int? {
        try volume.collect(from: position, atMost: pagesMax) { block, fill in try sink.add(page: block, fill) }
    }

    /// Hands over some of the blocks as they are.
    ///
    /// - Throws: `SystemError`, or what the sink throws.
    public func stream(from position: Int, pagesMax: Int, into sink: any PageSink) throws -> Int? {
        try volume.stream(
            from: position, lookingAt: VolumeParticipant.lookedAtMax, atMost: pagesMax, withBase: streamsBase
        ) { try sink.add(page: $0, $1) }
    }
}
