internal import NIOHTTP1

/// What a request asks for.
enum Route: Hashable, Sendable {
    case invoke(String)
    case create
    case list
    case get(String)
    case getConfiguration(String)
    case updateCode(String)
    case updateConfiguration(String)
    case delete(String)
    case concurrency(String)
    case versions(String)
    case tags(String)
    case account
    case page
    case health
    case metrics
    case status
    case functionLog(String)
    case functionCode(String)
    case events(String?)
    case unknown

    /// Finds the operation of a method and path.
    init(_ request: GatewayRequest) {
        let path = request.path
        switch path.first {
        case "2015-03-31" where path.count >= 2 && path[1] == "functions": self = Route.function(request.method, path.dropFirst(2))
        case "2017-10-31" where path.count == 4 && path[1] == "functions" && path[3] == "concurrency":
            self = [.PUT, .DELETE].contains(request.method) ? .concurrency(path[2]) : .unknown
        case "2019-09-30" where path.count == 4 && path[1] == "functions" && path[3] == "concurrency":
            self = request.method == .GET ? .concurrency(path[2]) : .unknown
        case "2017-03-31" where path.count == 3 && path[1] == "tags":
            self = [.GET, .POST, .DELETE].contains(request.method) ? .tags(path[2]) : .unknown
        case "2016-08-19" where path.count == 2 && path[1] == "account-settings": self = request.method == .GET ? .account : .unknown
        case "aurora": self = Route.own(request.method, path.dropFirst())
        default: self = Route.plain(request.method, path)
        }
    }

    private static func plain(_ method: HTTPMethod, _ path: [String]) -> Route {
        guard [.GET, .HEAD].contains(method), path.count <= 1 else { return .unknown }
        return switch path.first {
        case nil: .page
        case "healthz": .health
        case "metrics": .metrics
        default: .unknown
        }
    }

    private static func function(_ method: HTTPMethod, _ rest: ArraySlice<String>) -> Route {
        guard let name = rest.first else { return method == .POST ? .create : method == .GET ? .list : .unknown }
        switch (method, rest.count, rest.count == 2 ? rest.last : nil) {
        case (.POST, 2, "invocations"): return .invoke(name)
        case (.GET, 1, _): return .get(name)
        case (.DELETE, 1, _): return .delete(name)
        case (.GET, 2, "configuration"): return .getConfiguration(name)
        case (.PUT, 2, "configuration"): return .updateConfiguration(name)
        case (.PUT, 2, "code"): return .updateCode(name)
        case (.GET, 2, "versions"): return .versions(name)
        default: return .unknown
        }
    }

    private static func own(_ method: HTTPMethod, _ rest: ArraySlice<String>) -> Route {
        let words = Array(rest)
        switch (method, words.count) {
        case (.GET, 1) where words[0] == "status": return .status
        case (.GET, 1) where words[0] == "events": return .events(nil)
        case (.DELETE, 2) where words[0] == "events", (.POST, 2) where words[0] == "events": return .events(words[1])
        case (.GET, 3) where words[0] == "functions" && words[2] == "log": return .functionLog(words[1])
        case (.GET, 3) where words[0] == "functions" && words[2] == "code": return .functionCode(words[1])
        default: return .unknown
        }
    }
}
