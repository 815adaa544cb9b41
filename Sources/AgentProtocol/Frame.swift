/// What a frame carries.
///
/// Requests (host to agent) have the high bit clear, answers and events (agent to host) have it set.
public enum MessageType: UInt8, Sendable, CaseIterable {
    case hello = 0x01
    case ping = 0x02
    case configure = 0x03
    case mount = 0x04
    case start = 0x05
    case attach = 0x06
    case stdin = 0x07
    case stdinEnd = 0x08
    case resize = 0x09
    case signal = 0x0A
    case objects = 0x0B
    case setClock = 0x0C
    case reseed = 0x0D
    case proxy = 0x0E
    case sync = 0x0F
    case shutdown = 0x10

    case functionAttach = 0x20
    case functionStart = 0x21
    case functionRestored = 0x22
    case functionInvoke = 0x23
    case functionEvent = 0x24
    case functionKill = 0x25
    case functionMeasure = 0x26

    case welcome = 0x81
    case done = 0x82
    case failed = 0x83
    case started = 0x84
    case stdout = 0x85
    case stderr = 0x86
    case stdinCredit = 0x87
    case exited = 0x88
    case objectReport = 0x89

    case functionState = 0xA0
    case functionLog = 0xA1
    case functionAnswer = 0xA2
    case functionBody = 0xA3
    case functionEnd = 0xA4
    case functionExited = 0xA5
    case functionMemory = 0xA6

    /// Whether the host may send it.
    public var isRequest: Bool { rawValue & 0x80 == 0 }
}

/// One frame: a 16-byte header and up to `AgentLimits.framePayloadBytesMax` bytes.
///
/// Header: magic `0x5541` ("AU", 16 bits), type (8), flags (8), request number (32), payload length (32), zero (32).
public struct Frame: Equatable, Sendable {
    /// The length of a header in bytes.
    public static let headerBytes = 16
    /// The first two bytes of every frame, "AU".
    public static let magic: UInt16 = 0x5541
    /// The flag that says another frame of the same message follows.
    public static let moreFlag: UInt8 = 0x01

    /// What the payload is.
    public var type: MessageType
    /// The number that joins an answer to its request.
    public var request: UInt32
    /// Whether the message goes on in the next frame of the same type and request.
    public var hasMore: Bool
    /// The payload.
    public var payload: [UInt8]

    /// Describes a frame.
    public init(_ type: MessageType, request: UInt32, hasMore: Bool = false, payload: [UInt8] = []) {
        self.type = type
        self.request = request
        self.hasMore = hasMore
        self.payload = payload
    }

    /// Appends header and payload to a buffer.
    ///
    /// The payload must respect the limit.
    public func append(to buffer: inout [UInt8]) {
        Frame.appendHeader(type, request: request, hasMore: hasMore, count: payload.count, to: &buffer)
        buffer.append(contentsOf: payload)
    }

    /// Appends a header for a payload of `count` bytes that the caller appends itself.
    public static func appendHeader(_ type: MessageType, request: UInt32, hasMore: Bool, count: Int, to buffer: inout [UInt8]) {
        var writer = ByteWriter()
        writer.write(magic)
        writer.write(type.rawValue)
        writer.write(hasMore ? moreFlag : 0)
        writer.write(request)
        writer.write(UInt32(truncatingIfNeeded: count))
        writer.write(UInt32(0))
        buffer.append(contentsOf: writer.bytes)
    }

    /// Appends a message of any length as one or more frames.
    public static func appendMessage(_ type: MessageType, request: UInt32, payload: [UInt8], to buffer: inout [UInt8]) {
        var start = 0
        repeat {
            let end = min(start + AgentLimits.framePayloadBytesMax, payload.count)
            appendHeader(type, request: request, hasMore: end < payload.count, count: end - start, to: &buffer)
            buffer.append(contentsOf: payload[start..<end])
            start = end
        } while start < payload.count
    }
}

/// Cuts a byte stream into frames.
///
/// Holds at most one partial frame plus what was appended last.
public struct FrameDecoder: Sendable {
    private var buffer: [UInt8] = []
    private var head = 0

    /// Starts with an empty stream.
    public init() {}

    /// Bytes held that are not yet a frame.
    public var pendingBytes: Int { buffer.count - head }

    /// Bytes until a header or, when that is known, a whole frame is complete; reading no more leaves what follows in the stream.
    public var bytesMissing: Int {
        guard pendingBytes >= Frame.headerBytes else { return Frame.headerBytes - pendingBytes }
        var count = 0
        for index in 0..<4 { count |= Int(buffer[head + 8 + index]) << (8 * index) }
        return max(1, Frame.headerBytes + count - pendingBytes)
    }

    /// Adds bytes from the stream.
    public mutating func append(_ bytes: some Collection<UInt8>) {
        if head > 0 {
            buffer.removeFirst(head)
            head = 0
        }
        buffer.append(contentsOf: bytes)
    }

    /// The next complete frame, or nil when more bytes are needed.
    ///
    /// - Throws: `ProtocolFault`; the stream cannot be used further.
    public mutating func next() throws(ProtocolFault) -> Frame? {
        guard pendingBytes >= Frame.headerBytes else { return nil }
        var header = ByteReader([UInt8](buffer[head..<head + Frame.headerBytes]))
        guard try header.read(UInt16.self) == Frame.magic else { throw ProtocolFault(.badMagic) }
        guard let type = MessageType(rawValue: try header.read()) else { throw ProtocolFault(.unknownType, at: 2) }
        let flags: UInt8 = try header.read()
        guard flags & ~Frame.moreFlag == 0 else { throw ProtocolFault(.reservedBits, at: 3) }
        let request: UInt32 = try header.read()
        let count = Int(try header.read(UInt32.self))
        guard count <= AgentLimits.framePayloadBytesMax else { throw ProtocolFault(.tooLong, at: 8) }
        guard try header.read(UInt32.self) == 0 else { throw ProtocolFault(.reservedBits, at: 12) }
        guard pendingBytes >= Frame.headerBytes + count else { return nil }
        let start = head + Frame.headerBytes
        let payload = [UInt8](buffer[start..<start + count])
        head = start + count
        return Frame(type, request: request, hasMore: flags & Frame.moreFlag != 0, payload: payload)
    }

    /// Takes out what has arrived and is not yet a frame: the start of a raw stream after `proxy`.
    public mutating func takeRest() -> [UInt8] {
        let rest = [UInt8](buffer[head...])
        buffer = []
        head = 0
        return rest
    }
}

/// Joins the frames of a split message and limits its length.
public struct MessageAssembler: Sendable {
    private let bytesMax: Int
    private var partial: Frame?

    /// Joins messages of at most `bytesMax` bytes.
    public init(bytesMax: Int) { self.bytesMax = bytesMax }

    /// Adds a frame; returns the whole message when this was its last.
    ///
    /// - Throws: `.outOfOrder` when another message interrupts a split one, `.tooLong`.
    public mutating func add(_ frame: Frame) throws(ProtocolFault) -> Frame? {
        guard var joined = partial else {
            guard frame.hasMore else { return frame }
            partial = frame
            return nil
        }
        guard frame.type == joined.type, frame.request == joined.request else { throw ProtocolFault(.outOfOrder) }
        guard joined.payload.count + frame.payload.count <= bytesMax else { throw ProtocolFault(.tooLong) }
        // A split message whose frames are empty would never end.
        guard !(frame.payload.isEmpty && frame.hasMore) else { throw ProtocolFault(.badValue) }
        partial = nil
        joined.payload.append(contentsOf: frame.payload)
        joined.hasMore = frame.hasMore
        guard frame.hasMore else { return joined }
        partial = joined
        return nil
    }
}
