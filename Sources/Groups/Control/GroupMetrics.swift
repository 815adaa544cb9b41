/// What `GET /metrics` answers: a group's figures in Prometheus' text format.
enum GroupMetrics {
    /// The media type that Prometheus asks for.
    static let contentType = "text/plain; version=0.0.4; charset=utf-8"

    static func text(_ report: PersistenceReport, state: GroupStatus.State, warnings: Int, events: UInt64) -> String {
        var text = ""
        func add(_ name: String, _ kind: String, _ help: String, _ values: [(labels: String, value: Double?)]) {
            let known = values.filter { $0.value != nil }
            guard !known.isEmpty else { return }
            text += "# HELP aurora_group_\(name) \(help)\n# TYPE aurora_group_\(name) \(kind)\n"
            for (labels, value) in known { text += "aurora_group_\(name)\(labels) \(value ?? 0)\n" }
        }
        func one(_ name: String, _ kind: String, _ help: String, _ value: Double?) { add(name, kind, help, [("", value)]) }
        add("state", "gauge", "1 for the group's state.", [("{state=\"\(state.rawValue)\"}", 1)])
        one("events_total", "counter", "Events since the VMM process began.", Double(events))
        one("warnings", "gauge", "Warnings that are kept.", Double(warnings))
        add("checkpoint_health", "gauge", "1 for the state of the checkpoints.", [("{state=\"\(report.health.state.rawValue)\"}", 1)])
        let isGood: Bool? =
            switch report.health.state {
            case .none: nil
            case .manual, .held, .good: true
            case .starting, .slow, .late, .noRoom, .failed: false
            }
        one("checkpoints_as_promised", "gauge", "Whether checkpoints are made as promised.", isGood.map { $0 ? 1 : 0 })
        guard !report.backends.isEmpty else { return text }
        one("checkpoints_total", "counter", "Checkpoints since the VMM process began.", Double(report.count))
        one("checkpoint_rate", "gauge", "Checkpoints a second of the last second or the last periods.", report.rate)
        one("checkpoint_rate_promised", "gauge", "Checkpoints a second that were promised.", report.period.rate)
        one(
            "checkpoint_lag_seconds", "gauge", "Seconds since the moment that would be resumed if the power failed now.",
            report.durabilityLagMilliseconds.map { $0 / 1000 })
        add(
            "checkpoint_durable_number", "gauge", "The newest durable checkpoint of a backend.",
            report.backends.map { ("{backend=\"\($0.kind.rawValue)\"}", $0.durableNumber.map { Double($0) }) })
        add(
            "checkpoint_stop_seconds", "gauge", "How long the group stands still for a checkpoint.",
            [
                ("{quantile=\"0.5\"}", report.stops?.median), ("{quantile=\"0.99\"}", report.stops?.p99),
                ("{quantile=\"1\"}", report.stops?.max),
            ]
            .map { ($0.0, $0.1.map { $0 / 1e6 }) })
        one("dirty_pages_per_second", "gauge", "Pages that the guest writes a second.", report.dirtyPagesPerSecond)
        one("stored_bytes_total", "counter", "Bytes added to the store.", report.storedBytes.map { Double($0) })
        one("logical_bytes_total", "counter", "Bytes of the same pages without sharing.", report.logicalBytes.map { Double($0) })
        return text
    }
}
