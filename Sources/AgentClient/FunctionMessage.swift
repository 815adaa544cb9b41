public import AgentProtocol

/// What the agent says of a function's runtime.
public enum FunctionMessage: Equatable, Sendable {
    /// Where the runtime stands now.
    case state(FunctionPhase)
    /// What the runtime wrote to its standard output and standard error, as it came.
    case log([UInt8])
    /// An answer begins.
    case answer(FunctionAnswer)
    /// The next bytes of the answer that began.
    case body([UInt8])
    /// The answer is over.
    case end(FunctionEnd)
    /// The runtime's process ended.
    case exited(ExitStatus)
    /// How much memory the runtime and all it started have had at most.
    case memory(FunctionMemory)
    /// The agent could not do what was asked.
    case failed(Failure)
}

/// Reads the agent's messages from the bytes of a connection; does no input or output itself.
///
/// All that arrives is taken for hostile: what is accepted is in order and within the limits.
public struct FunctionMessageReader: Sendable {
    private var decoder = FrameDecoder()
    private var bodyBytes: Int?

    /// Starts with an empty stream.
    public init() {}

    /// Adds bytes from the connection.
    public mutating func append(_ bytes: some Collection<UInt8>) { decoder.append(bytes) }

    /// The next message, or nil when more bytes are needed.
    ///
    /// - Throws: `ProtocolFault`; the connection cannot be used further.
    public mutating func next() throws(ProtocolFault) -> FunctionMessage? {
        guard let frame = try decoder.next() else { return nil }
        return try read(frame)
    }

    /// Reads one frame.
    ///
    /// - Throws: `ProtocolFault`; the connection cannot be used further.
    mutating func read(_ frame: Frame) throws(ProtocolFault) -> FunctionMessage {
        guard !frame.hasMore else { throw ProtocolFault(.reservedBits, at: 3) }
        switch frame.type {
        case .functionState: return .state(try FunctionState(payload: frame.payload).phase)
        case .functionLog: return .log(frame.payload)
        case .functionExited: return .exited(try ExitStatus(payload: frame.payload))
        case .functionMemory: return .memory(try FunctionMemory(payload: frame.payload))
        case .failed: return .failed(try Failure(payload: frame.payload))
        case .functionAnswer:
            guard bodyBytes == nil else { throw ProtocolFault(.outOfOrder, at: 2) }
            bodyBytes = 0
            return .answer(try FunctionAnswer(payload: frame.payload))
        case .functionBody:
            guard let before = bodyBytes else { throw ProtocolFault(.outOfOrder, at: 2) }
            guard before + frame.payload.count <= FunctionLimits.payloadBytesMax else { throw ProtocolFault(.tooLong) }
            bodyBytes = before + frame.payload.count
            return .body(frame.payload)
        case .functionEnd:
            guard bodyBytes != nil else { throw ProtocolFault(.outOfOrder, at: 2) }
            bodyBytes = nil
            return .end(try FunctionEnd(payload: frame.payload))
        default: throw ProtocolFault(.outOfOrder, at: 2)
        }
    }
}

/// What the host asks of a function's runtime.
public enum FunctionCommand: Equatable, Sendable {
    /// The first command of a connection.
    case attach
    /// Starts the runtime.
    case start(FunctionStart)
    /// Answers `restore/next`.
    case restored(FunctionRestored)
    /// Hands a request over; its event is at most `FunctionLimits.payloadBytesMax` long.
    case invoke(FunctionInvoke, [UInt8])
    /// Kills the runtime and all that it started.
    case kill
    /// Asks how much memory the runtime has had; an agent of a snapshot that does not know this ends the connection.
    case measure

    /// Appends the frames of the command; several commands may be sent in one go.
    public func append(to bytes: inout [UInt8]) {
        switch self {
        case .attach: Frame.appendMessage(.functionAttach, request: 0, payload: FunctionAttach().encoded, to: &bytes)
        case .start(let start): Frame.appendMessage(.functionStart, request: 0, payload: start.encoded, to: &bytes)
        case .restored(let restored): Frame.appendMessage(.functionRestored, request: 0, payload: restored.encoded, to: &bytes)
        case .kill: Frame.appendMessage(.functionKill, request: 0, payload: [], to: &bytes)
        case .measure: Frame.appendMessage(.functionMeasure, request: 0, payload: [], to: &bytes)
        case .invoke(var invoke, let payload):
            invoke.payloadBytes = UInt32(clamping: payload.count)
            Frame.appendMessage(.functionInvoke, request: 0, payload: invoke.encoded, to: &bytes)
            var start = 0
            while start < payload.count {
                let end = min(start + AgentLimits.framePayloadBytesMax, payload.count)
                Frame.appendHeader(.functionEvent, request: 0, hasMore: false, count: end - start, to: &bytes)
                bytes.append(contentsOf: payload[start..<end])
                start = end
            }
        }
    }
}
