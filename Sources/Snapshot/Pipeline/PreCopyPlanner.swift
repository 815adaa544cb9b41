/// Decides when to begin copying before a stop, and how often, from what the last epochs were like.
///
/// A page copied early and written again is copied again in the stop, and its protection costs the guest a fault of some
/// microseconds a time: so copying begins as late as it can, and not at all when the stop can take all pages.
struct PreCopyPlanner {
    /// Pages that the stop takes without copying before it: some ten microseconds.
    static let pagesInStopGoal = 64.0
    static let roundsMax = 3
    private static let weight = 0.2
    private static let overhead = 200_000.0

    /// Pages of an epoch, those written again included.
    private(set) var pages = 0.0
    /// Pages left to the stop.
    private(set) var pagesInStop = 0.0
    private var nanosecondsPerPage = 800.0

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

    /// Buffers that a stop must find: far more than the last ones took.
    var reserve: Int { max(1024, Int(min(1e6, pagesInStop * 4))) }

    mutating func note(pages: Int, inStop: Int, copied: Int, nanoseconds: Int64) {
        self.pages += (Double(pages) - self.pages) * PreCopyPlanner.weight
        pagesInStop += (Double(inStop) - pagesInStop) * PreCopyPlanner.weight
        guard copied >= 16 else { return }
        let cost = min(max(Double(nanoseconds) / Double(copied), 100), 20_000)
        nanosecondsPerPage += (cost - nanosecondsPerPage) * PreCopyPlanner.weight
    }
}
