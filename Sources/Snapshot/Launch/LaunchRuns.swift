/// Neighbouring pages of a derived launch image, and where they lie in its file.
public struct LaunchRun: Hashable, Sendable {
    /// The first page, or block of a disk.
    public var first: Int
    /// How many follow one another.
    public var count: Int
    /// Where the first lies in the packed file, in pages.
    public var place: Int

    /// A run.
    public init(first: Int, count: Int, place: Int) {
        self.first = first
        self.count = count
        self.place = place
    }

    /// The page after the last.
    var end: Int { first + count }
}

/// What a derived launch image has instead of its base: runs of pages in rising order, packed one after the other.
public struct LaunchRuns: Hashable, Sendable {
    /// Each run costs a mapping of its own at every restore, and a process may have 65,530.
    public static let runsMax = 16_384
    /// Runs that a restore maps in about 0.2 ms: more are joined as long as that does not treble the pages.
    static let runsWanted = 48
    /// Pages between two runs that are stored although they are as in the base, so that the two become one.
    static let gapFilled = 8
    private static let magic = Array("AURRUNS1".utf8)
    private static let entryBytes = 24

    /// The runs, by page.
    public let runs: [LaunchRun]
    /// Pages of all runs.
    public var pageCount: Int { runs.last.map { $0.place + $0.count } ?? 0 }

    /// Packs pages that differ, given in rising order, into runs.
    ///
    /// Short gaps are filled; longer ones, too, when there would be too many runs.
    public init(covering pages: [Int]) {
        var gap = LaunchRuns.gapFilled
        var runs = LaunchRuns.pack(pages, gap: gap)
        while runs.count > LaunchRuns.runsWanted {
            gap *= 2
            let joined = LaunchRuns.pack(pages, gap: gap)
            guard runs.count > LaunchRuns.runsMax || LaunchRuns.count(joined) <= 3 * pages.count else { break }
            runs = joined
        }
        self.runs = runs
    }

    private static func count(_ runs: [LaunchRun]) -> Int { runs.last.map { $0.place + $0.count } ?? 0 }

    private static func pack(_ pages: [Int], gap: Int) -> [LaunchRun] {
        var runs: [LaunchRun] = []
        for page in pages {
            if let last = runs.last, page < last.end + gap + 1 {
                runs[runs.count - 1].count = max(last.count, page - last.first + 1)
            } else {
                runs.append(LaunchRun(first: page, count: 1, place: runs.last.map { $0.place + $0.count } ?? 0))
            }
        }
        return runs
    }

    /// The index of the run that holds a page, or of the first one behind it.
    func index(of page: Int) -> Int {
        var low = 0
        var high = runs.count
        while low < high {
            let middle = (low + high) / 2
            if runs[middle].end <= page { low = middle + 1 } else { high = middle }
        }
        return low
    }

    // MARK: - Format

    /// `AURRUNS1`, count, then first page, count and place of each run; 64 bits, little-endian.
    public var encoded: [UInt8] {
        var bytes = LaunchRuns.magic
        bytes.reserveCapacity(16 + runs.count * LaunchRuns.entryBytes)
        func put(_ value: Int) { for shift in 0..<8 { bytes.append(UInt8(truncatingIfNeeded: value >> (8 * shift))) } }
        put(runs.count)
        for run in runs {
            put(run.first)
            put(run.count)
            put(run.place)
        }
        return bytes
    }

    /// Reads what `encoded` wrote.
    ///
    /// - Parameter pages: of the whole memory or disk; no run may go beyond.
    /// - Returns: nil for anything that is not a list of runs in order.
    public init?(encoded bytes: [UInt8], pages: Int) {
        guard bytes.count >= 16, bytes.starts(with: LaunchRuns.magic) else { return nil }
        func word(_ offset: Int) -> Int {
            Int(bytes.withUnsafeBytes { Int64(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: Int64.self)) })
        }
        let count = word(8)
        guard count >= 0, count <= LaunchRuns.runsMax, bytes.count == 16 + count * LaunchRuns.entryBytes else { return nil }
        var runs: [LaunchRun] = []
        runs.reserveCapacity(count)
        var (end, place) = (0, 0)
        for index in 0..<count {
            let offset = 16 + index * LaunchRuns.entryBytes
            let run = LaunchRun(first: word(offset), count: word(offset + 8), place: word(offset + 16))
            guard run.first >= end, run.first < pages, run.count > 0, run.count <= pages - run.first, run.place == place else { return nil }
            runs.append(run)
            (end, place) = (run.first + run.count, place + run.count)
        }
        self.runs = runs
    }
}
