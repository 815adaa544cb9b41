public import AgentProtocol
internal import CLinux
public import Linux

/// A connection to the guest agent for requests with one answer, made by a thread that waits.
public struct AgentCall: ~Copyable {
    private let socket: OwnedDescriptor
    private var decoder = FrameDecoder()
    private var lastRequest: UInt32 = 0
    /// What the agent said about itself.
    public private(set) var welcome: Welcome

    /// Greets the agent on a connected stream.
    ///
    /// - Throws: `GroupError` (`.guest`) when it does not answer, or speaks another version.
    public init(_ socket: consuming OwnedDescriptor) throws(GroupError) {
        self.socket = socket
        welcome = Welcome(version: 0, uptimeNanoseconds: 0, kernelRelease: Text())
        let answer = try call(.hello, Hello())
        guard answer.type == .welcome else { throw GroupError(.guest, "The agent answered a greeting with \(answer.type)") }
        do throws(ProtocolFault) { welcome = try Welcome(payload: answer.payload) } catch { throw GroupError(.guest, "\(error)") }
    }

    /// Connects to the agent of a group.
    ///
    /// - Throws: `GroupError`.
    public init(vsockPath: String, timeoutMilliseconds: Int32 = 10_000) throws(GroupError) {
        try self.init(
            try VsockConnector.connect(vsockPath, port: AgentLimits.vsockPort, timeoutMilliseconds: timeoutMilliseconds))
    }

    /// Sends a request and waits for its answer, joined if it came in parts.
    ///
    /// - Throws: `GroupError` (`.guest`) when the agent refuses, breaks the protocol or does not answer in time.
    public mutating func call(_ type: MessageType, _ body: some MessageBody) throws(GroupError) -> Frame {
        try call(type, payload: body.encoded)
    }

    /// Sends a request given as bytes and waits for its answer.
    ///
    /// - Throws: as the other `call`.
    public mutating func call(_ type: MessageType, payload: [UInt8]) throws(GroupError) -> Frame {
        lastRequest += 1
        do {
            var bytes: [UInt8] = []
            Frame.appendMessage(type, request: lastRequest, payload: payload, to: &bytes)
            try DescriptorIO.writeAll(bytes, to: socket.rawValue, what: "the agent's connection")
            let answer = try receive(lastRequest)
            guard answer.type == .failed else { return answer }
            throw GroupError(.guest, AgentCall.describe(try Failure(payload: answer.payload)))
        } catch let error as SystemError {
            throw GroupError(.guest, error.errno == .wouldBlock ? "The guest's agent did not answer in time" : "\(error)")
        } catch let error as GroupError {
            throw error
        } catch {
            throw GroupError(.guest, "\(error)")
        }
    }

    private mutating func receive(_ request: UInt32) throws -> Frame {
        var assembler = MessageAssembler(bytesMax: AgentLimits.replyBytesMax)
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            while let frame = try decoder.next() {
                guard !frame.type.isRequest else { throw ProtocolFault(.outOfOrder, at: 2) }
                if let message = try assembler.add(frame), message.request == request || message.request == 0 { return message }
            }
            let count = try DescriptorIO.read(socket.rawValue, into: &chunk, what: "the agent's connection")
            guard count > 0 else { throw ProtocolFault(.connectionClosed) }
            decoder.append(chunk[..<count])
        }
    }

    /// Gives away the stream, for a session or a proxied port; nothing may have come that was not asked for.
    ///
    /// - Throws: `GroupError` (`.guest`) when bytes are left over.
    public consuming func takeStream() throws(GroupError) -> OwnedDescriptor {
        guard decoder.pendingBytes == 0 else { throw GroupError(.guest, "The agent sent bytes that nobody asked for") }
        return socket
    }

    /// A refusal of the agent in words.
    public static func describe(_ failure: Failure) -> String {
        let subject = failure.subject.string
        let reason = failure.errno > 0 ? ": \(Errno(rawValue: failure.errno))" : ""
        return switch failure.code {
        case .commandNotFound: "Command not found in the guest: \(subject)"
        case .notExecutable: "Cannot execute in the guest: \(subject)\(reason)"
        case .unknownUser: "No such user or group in the guest: \(subject)"
        case .badDirectory: "Cannot enter directory in the guest: \(subject)\(reason)"
        case .noSession: "No such session in the guest: \(subject)"
        case .limit: "A limit of the guest's agent is reached: \(subject)"
        case .versionMismatch: "The guest's agent speaks another protocol version: \(subject)"
        case .protocolFault: "The guest's agent refused a message: \(subject)"
        case .system: "Cannot \(subject) in the guest\(reason)"
        }
    }
}
