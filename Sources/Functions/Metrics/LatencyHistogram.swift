/// How often times of which length were seen: buckets an eighth of an octave wide, from a microsecond to half an hour.
struct LatencyHistogram: Sendable {
    /// Upper bounds of the buckets that Prometheus is told, seconds.
    static let bounds = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 60, 900]
    private static let stepsMax = 32 * 8

    private var counts = [UInt64](repeating: 0, count: stepsMax)
    private var boundCounts = [UInt64](repeating: 0, count: bounds.count)
    private(set) var count: UInt64 = 0
    private(set) var sumSeconds = 0.0

    /// Notes a time.
    mutating func add(nanoseconds: Int64) {
        let value = max(0, nanoseconds)
        counts[LatencyHistogram.step(of: value)] += 1
        count += 1
        let seconds = Double(value) / 1e9
        sumSeconds += seconds
        if let index = LatencyHistogram.bounds.firstIndex(where: { seconds <= $0 }) { boundCounts[index] += 1 }
    }

    /// Times up to each of `bounds`.
    var cumulative: [UInt64] {
        var sum: UInt64 = 0
        return boundCounts.map { count in
            sum += count
            return sum
        }
    }

    /// The time in nanoseconds that a share of all times did not exceed, within an eighth of an octave; nil when nothing was seen.
    func percentile(_ share: Double) -> Int64? {
        guard count > 0 else { return nil }
        let rank = UInt64((Double(count) * share).rounded(.up))
        var seen: UInt64 = 0
        for (step, count) in counts.enumerated() {
            seen += count
            if seen >= max(1, rank) { return LatencyHistogram.upperEnd(of: step) }
        }
        return nil
    }

    /// Adds what another histogram saw.
    mutating func merge(_ other: LatencyHistogram) {
        for index in counts.indices { counts[index] += other.counts[index] }
        for index in boundCounts.indices { boundCounts[index] += other.boundCounts[index] }
        count += other.count
        sumSeconds += other.sumSeconds
    }

    private static func step(of nanoseconds: Int64) -> Int {
        let units = UInt64(nanoseconds) / 125
        guard units >= 8 else { return Int(units) }
        let octave = 63 - units.leadingZeroBitCount
        return min(stepsMax - 1, (octave - 2) * 8 + Int(units >> UInt64(octave - 3) & 7))
    }

    private static func upperEnd(of step: Int) -> Int64 {
        guard step >= 8 else { return Int64(step + 1) * 125 }
        let octave = step / 8 + 2
        return Int64(8 + step % 8 + 1) << Int64(octave - 3) * 125
    }
}
