/// What the gateway takes before it refuses; every number a user may change is an option of `aurora serve`.
public struct GatewayLimits: Sendable {
    /// Connections open at once; for more, those that are idle for longest are closed.
    public var connectionsMax = 1024
    /// Connections open at once of one address; this host counts as one.
    public var connectionsPerAddressMax = 768
    /// Places of these that only this host's own clients get, so that it can always be asked how it is.
    public var connectionsOfHost = 16
    /// Bytes of one request's header fields.
    public var headerBytesMax = 64 << 10
    /// Bytes of the payload of a synchronous invocation (Lambda: 6 MB).
    public var payloadBytesMax = 6 << 20
    /// Bytes of the payload of an `Event` invocation (Lambda: 1 MB).
    public var eventPayloadBytesMax = 1 << 20
    /// Bytes of a request that carries code: 50 MiB packed, in base64, with the rest of its JSON.
    public var codeRequestBytesMax = 72 << 20
    /// Bytes of any other request.
    public var otherRequestBytesMax = 1 << 20
    /// Bytes of all requests' bodies that are in memory at once.
    public var bodyBytesMax = 512 << 20
    /// Seconds a new connection may take for its first complete header.
    public var headerSeconds = 10
    /// Seconds a connection that was served may stay open without another complete header.
    public var idleSeconds = 75
    /// Seconds a request's body may take to come, and an answer to be taken.
    public var transferSeconds = 60
    /// Seconds that running requests get when the gateway is told to end.
    public var drainSeconds = 30

    /// The limits of the documentation.
    public init() {}
}
