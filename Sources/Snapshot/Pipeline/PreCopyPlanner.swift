/// Decides when to begin copying before a stop, and how often, from what the last epochs were like.
///
/// A page copied early and written again is copied again in the stop, and its protection costs the guest a fault of some
/// microseconds a time: so copying begins as late as it can, and not at all when the stop can take all pages.
struct PreCopyPlanner {
    /// Pages that the stop takes without copying before it: some ten microseconds.
    static let pagesInStopGoal = 64.0
    static let roundsMax = 3
    /// Buffers that a stop finds, at least.
    static let reserveMin = 1024
    private static let weight = 0.2
    private static let overhead = 200_000.0
    private static let entriesMax = 1 << 18

    /// Pages of an epoch, those written again included.
    private(set) var pages = 0.0
    /// Pages left to the stop, and buffers they took: pages of zeros take none.
    private(set) var pagesInStop = 0.0
    private(set) var buffersInStop = 0.0
    private var nanosecondsPerPage = 800.0

    /// What a stop was like.
    struct Stop {
        var pages: Int
        var buffers: Int
    }

    /// Nanoseconds before a stop at which copying begins; zero: not at all.
    func lead(period: Int64) -> Int64 {
        guard pages > PreCopyPlanner.pagesInStopGoal else { return 0 }
        return Int64(min(Double(period) / 2, pages * nanosecondsPerPage * 1.25 + PreCopyPlanner.overhead))
    }

    /// Whether a round after one that copied `copied` pages promises to leave fewer to the stop.
    func isWorthAnother(rounds: Int, copied: Int, before: Int?) -> Bool {
        guard rounds < PreCopyPlanner.roundsMax, Double(copied) > PreCopyPlanner.pagesInStopGoal * 2 else { return false }
        guard let before else { return true }
        return copied < before * 2 / 3
    }

    /// Buffers that a stop should find: far more than the last ones took, twice as many after each stop that found too few, and
    /// never more than the pool can give.
    ///
    /// - Parameters:
    ///   - pool: buffers of the pool; a quarter is the most at first, three quarters after vain stops: the rest is others'.
    ///   - vainStops: stops of this epoch that found too few.
    func reserve(pool: Int, vainStops: Int) -> Int {
        let wanted = max(Double(PreCopyPlanner.reserveMin), buffersInStop * 4) * Double(1 << min(vainStops, 20))
        return Int(min(wanted, Double(vainStops == 0 ? pool / 4 : pool / 4 * 3)))
    }

    /// Entries of a list of pages that a stop should find, beside those of buffers.
    var entries: Int { Int(min(pagesInStop * 4, Double(PreCopyPlanner.entriesMax))) }

    mutating func note(pages: Int, inStop: Stop, nanoseconds: Int64) {
        self.pages += (Double(pages) - self.pages) * PreCopyPlanner.weight
        pagesInStop += (Double(inStop.pages) - pagesInStop) * PreCopyPlanner.weight
        buffersInStop += (Double(inStop.buffers) - buffersInStop) * PreCopyPlanner.weight
        guard pages >= 16 else { return }
        let cost = min(max(Double(nanoseconds) / Double(pages), 100), 20_000)
        nanosecondsPerPage += (cost - nanosecondsPerPage) * PreCopyPlanner.weight
    }
}
