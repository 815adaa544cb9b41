/// What to do when buffers are wanted that the batch has not: never to wait for what cannot come.
enum RoomStep: Hashable {
    /// Hand over what was copied, as a part of the epoch: its buffers come back.
    case handOver
    /// Nothing that could come back is under way: go on with what there is.
    case goOn
    /// Buffers are under way to backends and will come back.
    case wait
    /// Nobody takes the epoch any more.
    case abandon

    /// Who holds the pool's chunks.
    struct Situation: Hashable {
        /// Chunks of the batch that hold pages, and all that it has.
        var used: Int
        var leased: Int
        /// Chunks that nobody has, and all there are.
        var free: Int
        var total: Int
        /// Whether there is a backend that takes pages.
        var hasTakers: Bool
    }

    init(_ now: Situation) {
        if now.used > 0 {
            self = .handOver
        } else if now.total - now.free - now.leased <= 0 {
            self = .goOn
        } else {
            self = now.hasTakers ? .wait : .abandon
        }
    }
}
