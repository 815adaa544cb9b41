/// How a gateway is set up.
public struct GatewayConfiguration: Sendable {
    /// The address to listen on: a name or number.
    public var host: String
    /// The port; 0: one the kernel chooses.
    public var port: Int
    /// What clients must show; nil: nothing, which only a gateway for this host may do.
    public var token: String?
    /// `DATA/functions`.
    public var path: String
    /// What the HTTP side takes.
    public var limits = GatewayLimits()
    /// How many instances run.
    public var invoker = InvokerLimits()
    /// How events are delivered.
    public var events = EventLimits()
    /// How functions are built.
    public var builds = BuildLimits()

    /// A configuration.
    public init(host: String = "127.0.0.1", port: Int = 9000, token: String? = nil, path: String) {
        self.host = host
        self.port = port
        self.token = token
        self.path = path
    }

    /// Whether an address is of this host only.
    public static func isLoopback(_ host: String) -> Bool {
        if host == "localhost" || host == "::1" { return true }
        let parts = host.split(separator: ".", omittingEmptySubsequences: false)
        return parts.count == 4 && parts[0] == "127" && parts.allSatisfy { UInt8($0) != nil }
    }
}

/// Why a gateway cannot be started.
public enum GatewayError: Error, Hashable, Sendable, CustomStringConvertible {
    /// It would serve other hosts without a token.
    case tokenNeeded(host: String)
    /// The address cannot be listened on.
    case listen(address: String, reason: String)
    /// The functions or events cannot be opened.
    case state(String)

    /// What failed, and what to do.
    public var description: String {
        switch self {
        case .tokenNeeded(let host):
            "Refusing to listen on \(host) without a token: whoever reaches it could run code here.\n"
                + "Listen on 127.0.0.1, or leave out --no-token"
        case .listen(let address, let reason): "Cannot listen on \(address): \(reason)"
        case .state(let reason): reason
        }
    }
}
