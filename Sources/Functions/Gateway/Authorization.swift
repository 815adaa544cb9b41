internal import NIOHTTP1

/// Who may ask.
struct Authorization: Sendable {
    private let token: [UInt8]?

    init(token: String?) { self.token = token.map { Array($0.utf8) } }

    /// Why a request is not allowed; nil: it is.
    ///
    /// With a token, it must be shown as `Authorization: Bearer TOKEN`, or, by clients that sign their requests, as the session token
    /// (`X-Amz-Security-Token`, set by `AWS_SESSION_TOKEN`); signatures themselves are not checked. Without a token only this host can
    /// connect, and what a browser sends on behalf of a foreign page is refused.
    func refusal(_ request: GatewayRequest) -> LambdaError? {
        if let token {
            let shown = [
                request.header("authorization").flatMap { $0.lowercased().hasPrefix("bearer ") ? String($0.dropFirst(7)) : nil },
                request.header("x-amz-security-token"),
            ]
            if shown.contains(where: { $0.map { isEqual(Array($0.utf8), token) } ?? false }) { return nil }
            return .denied("The token is missing or wrong: Authorization: Bearer TOKEN, or AWS_SESSION_TOKEN=TOKEN")
        }
        if let host = request.header("host"), !GatewayConfiguration.isLoopback(hostName(host)) {
            return .denied("The gateway serves this host only, under its own names; asked for was \(host.prefix(100))")
        }
        if let origin = request.header("origin"), origin != "null", let host = request.header("host"), !origin.hasSuffix("://\(host)") {
            return .denied("Pages of other servers may not call the gateway")
        }
        if request.header("origin") == "null" || request.header("sec-fetch-site") == "cross-site" {
            return .denied("Pages of other servers may not call the gateway")
        }
        return nil
    }

    private func hostName(_ host: String) -> String {
        if host.hasPrefix("[") { return String(host.dropFirst().prefix { $0 != "]" }) }
        return String(host.prefix { $0 != ":" }).lowercased()
    }

    /// Compares without telling by the time it takes where texts differ.
    private func isEqual(_ first: [UInt8], _ second: [UInt8]) -> Bool {
        guard first.count == second.count else { return false }
        return zip(first, second).reduce(UInt8(0)) { $0 | ($1.0 ^ $1.1) } == 0
    }
}
