import CLinux
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
        let time: Int64
    }
    private struct State {
        var kept: [Kept] = []
        var durableTime: Int64?
    }
    private let state = Mutex(State())

    init(_ context: @escaping @Sendable () -> GroupContext?, diskBytes: [Int]) {
        self.context = context
        self.diskBytes = diskBytes
    }

    func freeze(_ epoch: EpochNumber) {
        let context = context()
        let now = clinux_monotonic_milliseconds()
        state.withLock { state in
            state.kept.append(Kept(epoch: epoch.rawValue, context: context, time: now))
            if state.kept.count > ContextKeeper.keptMax { state.kept.removeFirst() }
        }
    }

    func collect(_ epoch: EpochNumber, into sink: any PageSink) {}
    func stream(from position: Int, into sink: any PageSink) -> Int? { nil }

    /// The envelope of an epoch's checkpoint.
    func envelope(_ epoch: EpochNumber, machine: [UInt8]) throws -> [UInt8] {
        guard var context = state.withLock({ $0.kept.last { $0.epoch == epoch.rawValue }?.context }) else {
            throw GroupError(.host, "The program had not started when checkpoint \(epoch) was taken")
        }
        context.diskBytes = diskBytes
        return CheckpointEnvelope.encode(context: try CheckpointEnvelope.encode(context), machine: machine)
    }

    /// Notes that an epoch is durable in the store.
    func durable(_ epoch: UInt64) {
        state.withLock { state in
            if let time = state.kept.last(where: { $0.epoch == epoch })?.time { state.durableTime = time }
        }
    }

    /// How long ago the last durable checkpoint was taken; nil when there is none.
    var durableLagMilliseconds: Double? {
        let now = clinux_monotonic_milliseconds()
        return state.withLock { $0.durableTime }.map { Double(now - $0) }
    }
}
