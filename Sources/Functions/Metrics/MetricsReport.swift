/// All metrics of a gateway as Prometheus reads them.
struct MetricsReport {
    let gateway: Gateway
    let events: (waiting: Int, running: Int, dead: Int)

    var text: String {
        var out = PrometheusText()
        let state = gateway.metrics.snapshot
        let functions = state.functions.sorted { $0.key < $1.key }
        invocations(functions, &out)
        instances(functions, &out)
        builds(&out)
        launchCache(&out)
        eventCounts(state, &out)
        http(state, &out)
        return out.text
    }

    private func invocations(_ functions: [(key: String, value: GatewayMetrics.Function)], _ out: inout PrometheusText) {
        let counter = "aurora_function_invocations_total"
        out.begin(counter, "counter", "Requests to functions, by how they ended.")
        for (name, function) in functions {
            for outcome in GatewayMetrics.Outcome.allCases {
                guard let count = function.outcomes[outcome] else { continue }
                out.sample(counter, [("function", name), ("outcome", outcome.rawValue)], Double(count))
            }
        }
        let times = "aurora_function_duration_seconds"
        out.begin(times, "histogram", "Time from a request to its answer, by where the instance came from.")
        for (name, function) in functions {
            for kind in StartKind.allCases {
                guard let histogram = function.latencies[kind] else { continue }
                out.histogram(times, [("function", name), ("start", kind.rawValue)], histogram)
            }
        }
        let restores = "aurora_function_restore_seconds"
        out.begin(restores, "histogram", "Time to have a new instance.")
        for (name, function) in functions where function.restores.count > 0 {
            out.histogram(restores, [("function", name)], function.restores)
        }
    }

    private func instances(_ functions: [(key: String, value: GatewayMetrics.Function)], _ out: inout PrometheusText) {
        let totals = gateway.invoker.totals
        out.begin("aurora_instances", "gauge", "Live instances of all functions.")
        out.sample("aurora_instances", [("state", "active")], Double(totals.active - totals.starting))
        out.sample("aurora_instances", [("state", "starting")], Double(totals.starting))
        out.sample("aurora_instances", [("state", "idle")], Double(totals.idle))
        out.begin("aurora_waiting_requests", "gauge", "Requests that wait for an instance.")
        out.sample("aurora_waiting_requests", [], Double(totals.waiting))
        out.begin("aurora_function_instances", "gauge", "Live instances of a function.")
        for (name, _) in functions {
            let counts = gateway.invoker.counts(name)
            out.sample("aurora_function_instances", [("function", name), ("state", "active")], Double(counts.active))
            out.sample("aurora_function_instances", [("function", name), ("state", "idle")], Double(counts.idle))
        }
        out.begin("aurora_function_private_bytes", "gauge", "Memory of its own of the instance that served last.")
        for (name, function) in functions {
            guard let bytes = function.privateBytes else { continue }
            out.sample("aurora_function_private_bytes", [("function", name)], Double(bytes))
        }
        let peak = "aurora_function_memory_peak_bytes"
        out.begin(peak, "gauge", "The most memory that a function has had in any instance, as its guest counts.")
        for (name, function) in functions {
            guard let bytes = function.memoryPeakBytes else { continue }
            out.sample(peak, [("function", name)], Double(bytes))
        }
        out.begin("aurora_functions", "gauge", "Deployed functions, by state.")
        let records = gateway.catalogue.all
        for state in FunctionState.allCases {
            out.sample("aurora_functions", [("state", state.rawValue)], Double(records.count { $0.state == state }))
        }
    }

    private func builds(_ out: inout PrometheusText) {
        let counts = gateway.deployments.counts
        out.begin("aurora_builds", "gauge", "Functions that are built, or wait for it.")
        out.sample("aurora_builds", [("state", "waiting")], Double(counts.waiting))
        out.sample("aurora_builds", [("state", "running")], Double(counts.running))
    }

    private func launchCache(_ out: inout PrometheusText) {
        guard let cache = gateway.source.launchCache else { return }
        let figures: [(String, String, String, Int)] = [
            ("aurora_launch_images", "gauge", "Launch images on the disk.", cache.images),
            ("aurora_launch_cache_bytes", "gauge", "Bytes of the disk that launch images take.", cache.bytes),
            ("aurora_launch_cache_limit_bytes", "gauge", "Bytes that launch images may take, but for those in use.", cache.bytesMax),
            ("aurora_launch_images_evicted_total", "counter", "Launch images that were removed for want of room.", cache.evicted),
        ]
        for (name, kind, help, value) in figures {
            out.begin(name, kind, help)
            out.sample(name, [], Double(value))
        }
    }

    private func eventCounts(_ state: GatewayMetrics.State, _ out: inout PrometheusText) {
        out.begin("aurora_events", "gauge", "Asynchronous invocations that are kept.")
        out.sample("aurora_events", [("state", "waiting")], Double(events.waiting))
        out.sample("aurora_events", [("state", "running")], Double(events.running))
        out.sample("aurora_events", [("state", "dead")], Double(events.dead))
        out.begin("aurora_events_failing", "gauge", "Whether asynchronous invocations are refused because they cannot be kept.")
        out.sample("aurora_events_failing", [], gateway.events.failure == nil ? 0 : 1)
        let counters: [(String, String, UInt64)] = [
            ("aurora_events_refused_total", "Asynchronous invocations that could not be kept.", state.eventsRefused),
            ("aurora_events_accepted_total", "Asynchronous invocations that were acknowledged.", state.eventsAccepted),
            ("aurora_events_delivered_total", "Asynchronous invocations that functions served.", state.eventsDelivered),
            ("aurora_event_attempts_failed_total", "Attempts to deliver that failed.", state.eventAttemptsFailed),
            ("aurora_events_handed_on_total", "Records of failures given to the targets of dead letters.", state.eventsHandedOn),
            ("aurora_events_dead_total", "Asynchronous invocations that were given up.", state.eventsDead),
        ]
        for (name, help, value) in counters {
            out.begin(name, "counter", help)
            out.sample(name, [], Double(value))
        }
    }

    private func http(_ state: GatewayMetrics.State, _ out: inout PrometheusText) {
        out.begin("aurora_http_responses_total", "counter", "Answers, by status.")
        for (status, count) in state.answers.sorted(by: { $0.key < $1.key }) {
            out.sample("aurora_http_responses_total", [("code", "\(status)")], Double(count))
        }
        out.begin("aurora_http_connections", "gauge", "Open connections.")
        out.sample("aurora_http_connections", [], Double(gateway.connections))
        out.begin("aurora_http_body_bytes", "gauge", "Bytes of requests in memory.")
        out.sample("aurora_http_body_bytes", [], Double(gateway.bodyBytes))
        out.begin("process_start_time_seconds", "gauge", "When the gateway was started, since 1970.")
        out.sample("process_start_time_seconds", [], Double(gateway.startedAt) / 1000)
        if let bytes = HostMemory.ownResidentBytes {
            out.begin("process_resident_memory_bytes", "gauge", "Resident memory of the gateway.")
            out.sample("process_resident_memory_bytes", [], Double(bytes))
        }
    }
}
