/// A volume as a part of every checkpoint of its group.
public final class VolumeParticipant: EpochParticipant {
    /// Blocks of a piece of the base.
    private static let pieceBlocks = 256

    /// The volume's map: its disk's number, from one.
    public let map: Int
    /// The volume.
    public let volume: CheckpointedVolume

    /// Makes disk number `map`, counted from one, a part of the checkpoints.
    public init(_ volume: CheckpointedVolume, map: Int) {
        precondition(map > PageKey.memory && map < PageKey.mapsMax)
        self.volume = volume
        self.map = map
    }

    /// Fixes the contents.
    public func freeze(_ epoch: EpochNumber) { volume.freeze() }

    /// Hands over the blocks that changed.
    ///
    /// - Throws: `SystemError`, or what the sink throws.
    public func collect(_ epoch: EpochNumber, into sink: any PageSink) throws {
        _ = try volume.collect { block, fill in try sink.add(page: block, fill) }
    }

    /// Hands over some of the blocks as they are.
    ///
    /// - Throws: `SystemError`, or what the sink throws.
    public func stream(from position: Int, into sink: any PageSink) throws -> Int? {
        try volume.stream(from: position, count: VolumeParticipant.pieceBlocks) { block, fill in try sink.add(page: block, fill) }
    }
}
