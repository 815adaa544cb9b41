/// What becomes of an event that is given up, beyond being kept.
enum DeadLetterFate: Sendable {
    /// Its function has no target for it: it is kept.
    case kept
    /// It cannot be handed on, and is kept: why.
    case refused(String)
    /// This is handed on in its stead.
    case handedOn(StoredEvent)
}

/// Hands events that were given up to the function that `DeadLetterConfig` names.
struct DeadLetters: Sendable {
    /// The most bytes of a function's last answer that are handed on.
    private static let answerBytesMax = 256 << 10
    let catalogue: Catalogue

    /// What becomes of an event that its function failed on, or no instance could be had for.
    ///
    /// - Parameter answer: the function's last error, JSON; empty: there was none.
    func fate(_ event: StoredEvent, answer: [UInt8], at time: Int64) -> DeadLetterFate {
        // A record that its target fails on is kept there: two functions that name each other do not go on for ever.
        guard event.origin == nil, let target = catalogue[event.function]?.settings.deadLetter else { return .kept }
        guard let record = catalogue[target] else { return .refused("there is no function \(target) to hand it to") }
        let isApart = record.settings.isolatesTenants == true
        if isApart, event.tenant == nil { return .refused("\(target) keeps its tenants apart, and the request has none") }
        let payload = DeadLetters.record(event, answer, time)
        var letter = StoredEvent(identifier: Identifier.uuid(), function: target, payload: payload, receivedAt: time, nextAt: time)
        letter.tenant = isApart ? event.tenant : nil
        letter.origin = event.identifier
        return .handedOn(letter)
    }

    private struct Record: Encodable {
        struct Request: Encodable {
            let requestId: String
            let functionArn: String
            let condition: String
            let approximateInvokeCount: Int
        }
        struct Response: Encodable {
            let statusCode = 200
            let executedVersion = "$LATEST"
            let functionError = "Unhandled"
        }
        let version = "1.0"
        let timestamp: String
        let requestContext: Request
        let responseContext: Response
    }
    private struct Failure: Encodable { let errorMessage: String }

    /// The record of an asynchronous invocation, as Lambda's destinations for failures get it.
    private static func record(_ event: StoredEvent, _ answer: [UInt8], _ time: Int64) -> [UInt8] {
        let condition = event.attempts > 0 ? "RetriesExhausted" : "EventAgeExceeded"
        let record = Record(
            timestamp: "\(WallClock.iso(time))Z",
            requestContext: .init(
                requestId: event.identifier, functionArn: "\(FunctionName.resourceName(event.function)):$LATEST", condition: condition,
                approximateInvokeCount: event.attempts),
            responseContext: .init())
        let isWhole = !answer.isEmpty && answer.count <= answerBytesMax && JSONText.fault(in: answer) == nil
        let said = isWhole ? answer : JSONBody.encode(Failure(errorMessage: event.failure ?? ""))
        // Both are whole JSON texts: the request's was checked when it was taken.
        return JSONBody.encode(record).dropLast() + Array(#","requestPayload":"#.utf8) + event.payload
            + Array(#","responsePayload":"#.utf8) + said + [UInt8(ascii: "}")]
    }
}
