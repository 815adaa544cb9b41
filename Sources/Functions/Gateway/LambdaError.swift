internal import FoundationEssentials
internal import NIOHTTP1

/// An error as Lambda's REST-JSON protocol has it: `X-Amzn-Errortype` and `{"Type", "Message"}`.
struct LambdaError: Error, Hashable, Sendable {
    var status: Int
    var type: String
    var message: String
    /// Why requests are held back, in Lambda's words; nil: it is no such error.
    var throttle: String?

    private init(_ status: Int, _ type: String, _ message: String, throttle: String? = nil) {
        self.status = status
        self.type = type
        self.message = message
        self.throttle = throttle
    }
    /// Seconds after which a request that was held back is worth another try.
    static let retrySeconds = 1

    static func notFound(_ name: String) -> LambdaError {
        LambdaError(404, "ResourceNotFoundException", "Function not found: \(FunctionName.resourceName(name))")
    }
    static func noVersion(_ name: String, _ qualifier: String) -> LambdaError {
        LambdaError(404, "ResourceNotFoundException", "Cannot find \(FunctionName.resourceName(name)):\(qualifier): only $LATEST is there")
    }
    static func invalid(_ message: String) -> LambdaError { LambdaError(400, "InvalidParameterValueException", message) }
    static func badContent(_ message: String) -> LambdaError { LambdaError(400, "InvalidRequestContentException", message) }
    static func tooLarge(_ message: String) -> LambdaError { LambdaError(413, "RequestEntityTooLargeException", message) }
    static func throttled(_ message: String, isReserved: Bool = false) -> LambdaError {
        let reason = isReserved ? "ReservedFunctionConcurrentInvocationLimitExceeded" : "ConcurrentInvocationLimitExceeded"
        return LambdaError(429, "TooManyRequestsException", message, throttle: reason)
    }
    static func tooManyBuilds(_ count: Int) -> LambdaError {
        let message = "Rate exceeded: \(count) functions wait to be built"
        return LambdaError(429, "TooManyRequestsException", message, throttle: "CallerRateLimitExceeded")
    }
    static func conflict(_ message: String) -> LambdaError { LambdaError(409, "ResourceConflictException", message) }
    static func precondition(_ message: String) -> LambdaError { LambdaError(412, "PreconditionFailedException", message) }
    static func storage(_ message: String) -> LambdaError { LambdaError(400, "CodeStorageExceededException", message) }
    static func snapStart(_ message: String) -> LambdaError { LambdaError(400, "SnapStartException", message) }
    static func service(_ message: String) -> LambdaError { LambdaError(500, "ServiceException", message) }
    static func gateway(_ message: String) -> LambdaError { LambdaError(502, "ServiceException", message) }
    static func unavailable(_ message: String) -> LambdaError { LambdaError(503, "ServiceException", message) }
    static func denied(_ message: String) -> LambdaError { LambdaError(403, "AccessDeniedException", message) }
    static func unknown(_ method: String, _ path: String) -> LambdaError {
        LambdaError(404, "UnknownOperationException", "Aurora has no operation \(method) \(path.prefix(200))")
    }
    static func other(_ status: Int, _ message: String) -> LambdaError { LambdaError(status, "InvalidRequestException", message) }

    init(_ error: CatalogueError) {
        self =
            switch error {
            case .notFound(let name): .notFound(name)
            case .exists, .busy: .conflict(error.description)
            case .invalid: .invalid(error.description)
            case .revision: .precondition(error.description)
            case .full: .storage(error.description)
            case .inUse, .damaged, .host: .service(error.description)
            }
    }

    /// The error as an answer.
    var response: GatewayResponse {
        struct Body: Encodable {
            let type: String
            let message: String
            let reason: String?
            enum CodingKeys: String, CodingKey { case type = "Type", message = "Message", reason = "Reason" }
        }
        let body = JSONBody.encode(Body(type: status < 500 ? "User" : "Service", message: message, reason: throttle))
        var response = GatewayResponse(status: status, body: body)
        if throttle != nil { response.headers.add(name: "Retry-After", value: "\(LambdaError.retrySeconds)") }
        response.headers.add(name: "X-Amzn-Errortype", value: type)
        return response
    }
}

/// JSON of answers and requests.
enum JSONBody {
    static func encode(_ value: some Encodable) -> [UInt8] {
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
        // Values of this module have no numbers and texts that JSON cannot have.
        guard let data = try? encoder.encode(value) else { return Array("{}".utf8) }
        return [UInt8](data)
    }

    static func decode<Value: Decodable>(_ type: Value.Type, _ bytes: [UInt8]) throws(LambdaError) -> Value {
        if let fault = JSONText.fault(in: bytes) { throw .badContent("Could not parse request body into json: \(fault)") }
        do {
            return try JSONDecoder().decode(type, from: Data(bytes))
        } catch {
            throw .invalid("Could not parse request body into json: \(JSONFault.summary(of: error))")
        }
    }
}
