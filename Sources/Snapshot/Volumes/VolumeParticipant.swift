internal import AuroraVMM

/// A volume in the epochs of its group.
public final class VolumeParticipant: EpochParticipant {
    /// The map of its blocks.
    public let map: Int
    /// The volume.
    public let volume: CheckpointedVolume

    /// Blocks looked at in one call of `stream`.
    private static let streamBlocks = 256

    /// Joins a volume, whose blocks are pages of map `map` (from 1), to a group's epochs.
    public init(_ volume: CheckpointedVolume, map: Int) {
        self.volume = volume
        self.map = map
    }

    /// Fixes the volume's contents, in the stop window.
    public func freeze(_ epoch: EpochNumber) { volume.freeze() }

    /// Hands over the blocks that changed between the freeze before and this one.
    ///
    /// - Throws: `SystemError`, or what the sink throws.
    public func collect(_ epoch: EpochNumber, into sink: any PageSink) throws {
        _ = try volume.collect { block, fill in try sink.add(page: block, fill) }
    }

    /// Hands over blocks as they are now, from a position on.
    ///
    /// - Throws: `SystemError`, or what the sink throws.
    public func stream(from position: Int, into sink: any PageSink) throws -> Int? {
        try volume.stream(from: position, count: VolumeParticipant.streamBlocks) { block, fill in try sink.add(page: block, fill) }
    }
}
