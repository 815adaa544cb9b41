/// What one epoch cost, times in nanoseconds.
///
/// The parts of the stop are those of Table 3 of the paper: what is done while the application does not run.
public struct EpochStatistics: Hashable, Sendable, Codable {
    /// From the request to the moment when nothing changes the guest.
    public var pause: Int64 = 0
    /// Harvest of the last dirty pages, and their copy.
    public var copy: Int64 = 0
    /// State of vCPU, interrupt controllers and devices.
    public var state: Int64 = 0
    /// The volumes' part.
    public var volumes: Int64 = 0
    /// Until the guest may run again.
    public var resume: Int64 = 0
    /// Copying while the guest ran.
    public var preCopy: Int64 = 0
    /// When it was: the host's monotonic clock at the stop.
    public var monotonicClock: Int64 = 0
    /// Time since the stop before this one.
    public var period: Int64 = 0
    /// How much later than planned the stop was, because a backend lagged or the processor was busy.
    public var delay: Int64 = 0
    /// Rounds of copying while the guest ran.
    public var rounds = 0
    /// Pages copied in the stop.
    public var pagesInStop = 0
    /// Stops before this one that found too few buffers; the guest ran on, and another round of copying followed.
    public var vainStops = 0
    /// Pages of memory in the epoch, each counted once but for those staged.
    public var pages = 0
    /// Pages of volumes in the epoch.
    public var volumePages = 0
    /// Pages handed over before the stop because they were too many to keep.
    public var stagedPages = 0

    /// No costs.
    public init() {}

    /// How long the guest stood still.
    public var stop: Int64 { pause + copy + state + volumes + resume }
}

/// The last epochs' statistics, a bounded number of them.
public struct StatisticsHistory: Sendable {
    /// Epochs that are kept.
    public static let epochsMax = 4096
    private var ring: [EpochStatistics] = []
    private var next = 0
    /// Epochs ever recorded.
    public private(set) var count: UInt64 = 0

    /// An empty history.
    public init() { ring.reserveCapacity(StatisticsHistory.epochsMax) }

    mutating func append(_ statistics: EpochStatistics) {
        count += 1
        if ring.count < StatisticsHistory.epochsMax {
            ring.append(statistics)
        } else {
            ring[next] = statistics
            next = (next + 1) % StatisticsHistory.epochsMax
        }
    }

    /// What is made now, of the last second or the last few periods: it falls as soon as nothing is made.
    ///
    /// - Parameters:
    ///   - now: the monotonic clock, in nanoseconds.
    ///   - since: what was before does not count, because epochs were made otherwise.
    ///   - period: nanoseconds from one epoch to the next; nil: they are made on request.
    public func figures(now: Int64, since: Int64, period: Int64?) -> RecentFigures {
        // A day is the longest period there is.
        let window = max(StatisticsHistory.windowMin, (period ?? 0) * StatisticsHistory.windowPeriods)
        let begin = max(since, now - window)
        var (count, pages) = (0, 0)
        var (newest, former): (Int64?, Int64?) = (nil, nil)
        for distance in stride(from: 1, through: ring.count, by: 1) {
            let epoch = ring[(next + ring.count - distance) % ring.count]
            guard epoch.monotonicClock > begin else {
                former = epoch.monotonicClock
                break
            }
            newest = newest ?? epoch.monotonicClock
            count += 1
            pages += epoch.pages + epoch.stagedPages + epoch.volumePages
        }
        guard let newest else { return RecentFigures(rate: 0, pagesPerSecond: 0) }
        guard let period else {
            let seconds = Double(max(now - begin, 1)) / 1e9
            return RecentFigures(rate: Double(count) / seconds, pagesPerSecond: Double(pages) / seconds)
        }
        // From the stop before the first of them, as long as that is no gap, to the last, as long as the next is not due.
        let start = max(former ?? begin, begin - period, since)
        let seconds = Double(max(max(newest, now - period) - start, period)) / 1e9
        return RecentFigures(rate: Double(count) / seconds, pagesPerSecond: Double(pages) / seconds)
    }

    private static let windowMin: Int64 = 1_000_000_000
    private static let windowPeriods: Int64 = 5

    /// The epochs kept, oldest first.
    public var epochs: [EpochStatistics] { Array(ring[next...] + ring[..<next]) }

    /// The distribution of a value over the epochs kept.
    public func distribution(_ value: (EpochStatistics) -> Int64) -> Distribution { Distribution(ring.map(value)) }
}

/// What epochs of late are like.
public struct RecentFigures: Hashable, Sendable {
    /// Epochs a second.
    public let rate: Double
    /// Pages of memory and volumes a second.
    public let pagesPerSecond: Double
}

/// Median, 99th percentile and maximum of some numbers.
public struct Distribution: Hashable, Sendable, Codable {
    /// How many numbers there were.
    public let count: Int
    /// The median.
    public let p50: Int64
    /// The 99th percentile.
    public let p99: Int64
    /// The greatest.
    public let max: Int64

    /// The distribution of these numbers; zeros when there are none.
    public init(_ values: [Int64]) {
        let sorted = values.sorted()
        func at(_ share: Double) -> Int64 { sorted.isEmpty ? 0 : sorted[min(sorted.count - 1, Int(share * Double(sorted.count)))] }
        count = sorted.count
        p50 = at(0.5)
        p99 = at(0.99)
        max = sorted.last ?? 0
    }
}
