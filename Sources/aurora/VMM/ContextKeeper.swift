import Groups
import Snapshot
import Synchronization

/// Takes the host's side of a group in the stop of each epoch, so that it fits the machine's state.
final class ContextKeeper: EpochParticipant {
    /// No volume has this map.
    let map = (1 << 16) - 1
    /// Epochs that may be under way at all backends, and some.
    private static let keptMax = 64

    private let context: @Sendable () -> GroupContext?
    private let diskBytes: [Int]
    private struct Kept {
        let epoch: UInt64
        let context: GroupContext?
    }
    private let kept = Mutex<[Kept]>([])

    init(_ context: @escaping @Sendable () -> GroupContext?, diskBytes: [Int]) {
        self.context = context
        self.diskBytes = diskBytes
    }

    func freeze(_ epoch: EpochNumber) {
        let context = context()
        kept.withLock { kept in
            kept.append(Kept(epoch: epoch.rawValue, context: context))
            if kept.count > ContextKeeper.keptMax { kept.removeFirst() }
        }
    }

    func collect(_ epoch: EpochNumber, from position: Int, pagesMax: Int, into sink: any PageSink) -> Int? { nil }
    func stream(from position: Int, pagesMax: Int, into sink: any PageSink) -> Int? { nil }

    /// The envelope of an epoch's checkpoint.
    func envelope(_ epoch: EpochNumber, machine: [UInt8]) throws -> [UInt8] {
        guard var context = kept.withLock({ $0.last { $0.epoch == epoch.rawValue }?.context }) else {
            throw GroupError(.host, "The program had not started when checkpoint \(epoch) was taken")
        }
        context.diskBytes = diskBytes
        return CheckpointEnvelope.encode(context: try CheckpointEnvelope.encode(context), machine: machine)
    }
}
