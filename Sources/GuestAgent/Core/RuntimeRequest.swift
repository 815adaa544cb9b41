#if !hasFeature(Embedded)
    public import AgentProtocol
#endif

/// The head of a request to the Lambda runtime API.
public struct RuntimeRequest: Equatable, Sendable {
    /// What is asked, by method and path.
    public enum Target: Equatable, Sendable {
        /// `GET …/runtime/invocation/next`.
        case invocationNext
        /// `POST …/runtime/invocation/{id}/response`.
        case response(Text)
        /// `POST …/runtime/invocation/{id}/error`.
        case error(Text)
        /// `POST …/runtime/init/error`.
        case initializationError
        /// `GET …/runtime/restore/next`.
        case restoreNext
        /// `POST …/runtime/restore/error`.
        case restoreError
        /// `GET …/runtime/aurora/start`, Aurora's own: a runtime that is loaded asks which function it is.
        case start
        /// Anything else.
        case unknown
    }

    /// What is asked.
    public var target = Target.unknown
    /// `Content-Type`; empty: none.
    public var contentType = Text()
    /// `Lambda-Runtime-Function-Error-Type`, of the head or of the trailer; empty: none.
    public var errorType = Text()
    /// Whether the connection stays open after the answer.
    public var keepsAlive = true
    /// Whether the client waits for `100 Continue` before it sends the body.
    public var expectsContinue = false

    /// A request for nothing yet.
    public init() {}

    private static let prefix: StaticString = "/2018-06-01/runtime/"

    /// What a method and a path ask for.
    static func target(method: Text, path: Text) -> Target {
        guard path.hasPrefix(prefix) else { return .unknown }
        let rest = path.dropFirst(prefix.utf8CodeUnitCount)
        if method == "GET" {
            if rest == "invocation/next" { return .invocationNext }
            if rest == "aurora/start" { return .start }
            return rest == "restore/next" ? .restoreNext : .unknown
        }
        guard method == "POST" else { return .unknown }
        if rest == "init/error" { return .initializationError }
        if rest == "restore/error" { return .restoreError }
        guard rest.hasPrefix("invocation/") else { return .unknown }
        let parts = rest.dropFirst(11).bytes.split(separator: UInt8(ascii: "/"), omittingEmptySubsequences: false)
        guard parts.count == 2, !parts[0].isEmpty else { return .unknown }
        if Text(parts[1]) == "response" { return .response(Text(parts[0])) }
        return Text(parts[1]) == "error" ? .error(Text(parts[0])) : .unknown
    }
}

/// Why a request to the runtime API cannot be understood; the connection is answered and closed.
public struct RuntimeRequestFault: Error, Equatable, Sendable {
    /// The status of the HTTP answer.
    public let status: Int

    /// A fault that is answered with a status.
    public init(_ status: Int) { self.status = status }
}

/// A part of a request, as the parser comes to it.
public enum RuntimeRequestPiece: Equatable, Sendable {
    /// All bytes are used up.
    case needsMore
    /// A request begins; its body follows, and `end` in any case.
    case head(RuntimeRequest)
    /// The next bytes of the body: a range of the input.
    case body(Range<Int>)
    /// The request is over; an error type of the trailer, if there is one.
    case end(errorType: Text)
}
