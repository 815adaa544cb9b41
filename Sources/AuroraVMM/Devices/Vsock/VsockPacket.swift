/// The header of a vsock packet (virtio 1.2, section 5.10.6).
struct VsockHeader: Equatable {
    static let byteCount = 44
    /// Stream sockets, the only type offered.
    static let streamType: UInt16 = 1
    /// The context identifier of the host.
    static let hostContext: UInt64 = 2

    enum Operation: UInt16 {
        case request = 1
        case response = 2
        case reset = 3
        case shutdown = 4
        case data = 5
        case creditUpdate = 6
        case creditRequest = 7
    }

    var sourceContext: UInt64
    var targetContext: UInt64
    var sourcePort: UInt32
    var targetPort: UInt32
    var length: UInt32 = 0
    var type: UInt16 = VsockHeader.streamType
    var operation: UInt16
    var flags: UInt32 = 0
    var bufferBytes: UInt32 = 0
    var forwarded: UInt32 = 0

    init(from host: UInt32, to guest: UInt32, context: UInt64, _ operation: Operation) {
        sourceContext = Self.hostContext
        targetContext = context
        sourcePort = host
        targetPort = guest
        self.operation = operation.rawValue
    }

    /// Reads the header at the start of a request; nil when it is too short.
    init?(_ chain: DescriptorChain) {
        guard let sourceContext = chain.load(at: 0, as: UInt64.self), let targetContext = chain.load(at: 8, as: UInt64.self),
            let sourcePort = chain.load(at: 16, as: UInt32.self), let targetPort = chain.load(at: 20, as: UInt32.self),
            let length = chain.load(at: 24, as: UInt32.self), let type = chain.load(at: 28, as: UInt16.self),
            let operation = chain.load(at: 30, as: UInt16.self), let flags = chain.load(at: 32, as: UInt32.self),
            let bufferBytes = chain.load(at: 36, as: UInt32.self), let forwarded = chain.load(at: 40, as: UInt32.self)
        else { return nil }
        (self.sourceContext, self.targetContext) = (sourceContext, targetContext)
        (self.sourcePort, self.targetPort) = (sourcePort, targetPort)
        (self.length, self.type, self.operation, self.flags) = (length, type, operation, flags)
        (self.bufferBytes, self.forwarded) = (bufferBytes, forwarded)
    }

    /// Writes the header to the start of a receive buffer; false when that is too small.
    func write(to chain: DescriptorChain) -> Bool {
        guard chain.writableCount >= Self.byteCount else { return false }
        chain.store(sourceContext, at: 0)
        chain.store(targetContext, at: 8)
        chain.store(sourcePort, at: 16)
        chain.store(targetPort, at: 20)
        chain.store(length, at: 24)
        chain.store(type, at: 28)
        chain.store(operation, at: 30)
        chain.store(flags, at: 32)
        chain.store(bufferBytes, at: 36)
        chain.store(forwarded, at: 40)
        return true
    }
}

/// Flags of a shutdown packet: what the sender will not do any more.
struct VsockShutdown: OptionSet, Equatable {
    let rawValue: UInt32
    static let receive = VsockShutdown(rawValue: 1)
    static let send = VsockShutdown(rawValue: 2)
    static let both: VsockShutdown = [.receive, .send]
}

/// A connection's two ends.
struct VsockKey: Hashable {
    let hostPort: UInt32
    let guestPort: UInt32
}
