@testable import Store

/// What a store should hold: dictionaries beside the real thing.
struct StoreModel {
    struct Checkpoint: Equatable {
        var pages: [PageKey: UInt64]
        var state: [UInt8]
        var name: String
        var time: UInt64
    }

    struct Stream {
        var checkpoints: [UInt64: Checkpoint] = [:]
        /// The pages the next epoch changes.
        var current: [PageKey: UInt64] = [:]
        var lastNumber: UInt64 = 0
        var durableNumber: UInt64 = 0

        mutating func settle() { durableNumber = lastNumber }
        mutating func rollback(to number: UInt64) { current = checkpoints[number]?.pages ?? [:] }
    }

    var streams: [String: Stream] = [:]
}
