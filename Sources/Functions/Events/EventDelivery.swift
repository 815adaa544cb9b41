internal import Logging

/// Delivers events to instances, as an invocation whose answer nobody waits for.
struct EventDelivery: Sendable {
    let catalogue: Catalogue
    let deployments: Deployments
    let invoker: Invoker
    let metrics: GatewayMetrics
    let logs: FunctionLogs
    let logger: Logger

    /// Delivers an event once.
    func deliver(_ event: StoredEvent) async -> Delivery {
        guard var record = catalogue[event.function] else { return .hopeless("The function was removed") }
        if record.mayRetryInit {
            let retried: FunctionRecord?
            do throws(LambdaError) { retried = try await deployments.retry(record).0 } catch { return .unavailable(error.message) }
            guard let again = retried else { return .hopeless("The function was removed") }
            if again.mayRetryInit {
                metrics.note(event.function, .functionError)
                return .failed(
                    again.reason ?? "The function could not be initialized", answer: InvokeAnswer.initFailure(again, log: nil).body)
            }
            record = again
        }
        guard let function = record.deployed else { return .unavailable("The function is \(record.state.rawValue)") }
        do throws(InvokerError) {
            let served = try await invoker.invoke(function, tenant: event.tenant, concurrencyMax: record.settings.concurrencyMax) {
                Gateway.invocation(event.identifier, function, event.payload, event.clientContext, nil, event.tenant)
            }
            let logging = record.settings.logging ?? LoggingSettings()
            let answer = InvokeAnswer(identifier: event.identifier, function: function, served: served, logging: logging)
            metrics.note(event.function, answer.outcome, served)
            // Nobody else was told what it printed: it is in the file before the event is over, also when the gateway is killed then.
            await logs.write(answer.log, event.function)
            return answer.functionFailure.map { .failed($0, answer: answer.errorPayload) } ?? .done
        } catch {
            switch error {
            case .throttled(let reason):
                metrics.note(event.function, .throttled)
                return .unavailable(reason)
            case .unavailable(let reason):
                metrics.note(event.function, .unavailable)
                return .unavailable("\(reason)")
            case .draining, .cancelled: return .unavailable("The gateway ended")
            }
        }
    }

    /// Counts how a delivery went.
    func report(_ event: StoredEvent, _ delivery: Delivery, isOver: Bool) {
        var isDone = false
        if case .done = delivery { isDone = true }
        metrics.noteEvent { [isDone] state in
            if isDone { state.eventsDelivered += 1 } else { state.eventAttemptsFailed += 1 }
            if isOver, event.deadAt != nil { state.eventsDead += 1 }
            if isOver, !isDone, event.deadAt == nil { state.eventsHandedOn += 1 }
        }
        guard isOver, !isDone else { return }
        logger.error(
            event.deadAt == nil ? "event handed to the dead letter target" : "event given up",
            metadata: ["request": "\(event.identifier)", "function": "\(event.function)", "reason": "\(event.failure ?? "")"])
    }
}
