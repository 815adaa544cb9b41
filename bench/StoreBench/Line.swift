/// A line of results: samples of the store, and of what it is measured against in the same run.
struct Line {
    let name: String
    let unit: String
    let samples: [Double]
    var peer: [Double] = []
    var peerName = ""
    var goal = ""
    var isHigherBetter = false

    /// As `bench/run` takes it.
    var json: String {
        var fields = [
            "\"name\": \"\(name)\"", "\"unit\": \"\(unit)\"", "\"higher_is_better\": \(isHigherBetter)",
            "\"aurora\": \(summary(samples))", "\"goal\": \"\(goal)\"",
        ]
        if !peer.isEmpty { fields.append("\"peer\": \(summary(peer)), \"peer_name\": \"\(peerName)\"") }
        return "{\(fields.joined(separator: ", "))}"
    }

    /// As a person reads it.
    var text: String {
        let padded = name + String(repeating: " ", count: max(1, 60 - name.count))
        let beside = peer.isEmpty ? "" : "  (\(peerName): \(rounded(median(peer))); \(rounded(median(samples) / median(peer))) x)"
        return "\(padded)\(rounded(median(samples))) \(unit)\(beside)"
    }

    private func summary(_ values: [Double]) -> String {
        let ordered = isHigherBetter ? values.sorted(by: >) : values.sorted()
        let late = ordered[min(ordered.count - 1, ordered.count * 99 / 100)]
        return "{\"median\": \(median(values)), \"p99\": \(late), \"worst\": \(ordered[ordered.count - 1]), \"samples\": \(values.count)}"
    }

    private func median(_ values: [Double]) -> Double { values.sorted()[values.count / 2] }

    private func rounded(_ value: Double) -> Double {
        let digits = value < 10 ? 100.0 : value < 100 ? 10 : 1
        return (value * digits).rounded() / digits
    }
}
