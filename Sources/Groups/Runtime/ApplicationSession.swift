internal import AgentProtocol
internal import CLinux
internal import Linux
import Synchronization

/// The group's program as the VMM process sees it: what it writes goes to the log and to the attached client, what the
/// client sends goes to it.
///
/// All methods are called on the loop's thread.
///
/// `@unchecked Sendable`: the state is touched on the loop's thread alone.
final class ApplicationSession: @unchecked Sendable {
    /// What the runtime must know.
    enum Happening: Sendable {
        case started(Int32)
        case refused(Failure)
        case exited(ExitStatus)
        case lost(String?)
        /// The client wants no more of it before it started.
        case cancelled
    }

    /// How far a connection to the agent has come: a frame out of this order ends it.
    private enum Phase {
        case greeting
        case starting
        case running
        case ended
    }

    /// The request number of everything that belongs to the session, on both sides.
    private static let request: UInt32 = 1

    /// Bytes of output that have arrived from the program since it was started.
    let outputBytes = Atomic<UInt64>(0)
    private let loop: EventLoop
    private var log: LogWriter
    private let wantsInput: Bool
    private let isTerminal: Bool
    private let report: @Sendable (Happening) -> Bool
    private var phase = Phase.greeting
    /// A signal that came while there was no connection to the agent: it goes out with the next one.
    private var pendingSignal: Int32?
    private var agent: FrameChannel?
    private var client: FrameChannel?
    private var number: Int32?
    private var inputWindow = AgentLimits.stdinWindowBytes
    private var inputHasEnded = false
    private var isConfirmed = false
    /// The size of the client's terminal, as it said last.
    private var windowSize: WindowSize?
    private var afterClient: (@Sendable () -> Void)?

    /// - Parameter report: tells the runtime; false when it can take no more, which ends the connection to the agent.
    init(
        loop: EventLoop, log: consuming LogWriter, wantsInput: Bool, isTerminal: Bool, report: @escaping @Sendable (Happening) -> Bool
    ) {
        self.loop = loop
        self.log = log
        self.wantsInput = wantsInput
        self.isTerminal = isTerminal
        self.report = report
    }

    /// Starts the program over a greeted connection to the agent.
    func start(_ socket: SharedDescriptor, _ wanted: StartRequest) {
        var request = wanted
        // The client said it before the machine was started: the first thing a program asks for is right.
        if request.terminal != nil, let windowSize { request.terminal = windowSize }
        let channel = FrameChannel(socket, loop: loop)
        agent = channel
        phase = .greeting
        do throws(SystemError) {
            try channel.start { [weak self] in self?.agentDid($0) }
            channel.send(.hello, request: ApplicationSession.request, payload: GroupAgent.greeting)
            channel.send(.start, request: ApplicationSession.request, payload: request.encoded)
        } catch {
            tell(.lost("\(error)"))
        }
    }

    /// Goes on with a program that runs already, over a greeted connection to the agent of a guest that went on from a checkpoint.
    ///
    /// A former connection is forgotten without a word: it led to a guest that is no more.
    ///
    /// - Parameter receivedBytes: the output that had arrived when the checkpoint was taken.
    func resume(_ socket: SharedDescriptor, session: Int32, receivedBytes: UInt64) {
        forgetAgent()
        outputBytes.store(receivedBytes, ordering: .relaxed)
        let channel = FrameChannel(socket, loop: loop)
        agent = channel
        phase = .greeting
        // The agent grants what the program can take; nothing may be sent before.
        inputWindow = 0
        do throws(SystemError) {
            try channel.start { [weak self] in self?.agentDid($0) }
            channel.send(.hello, request: ApplicationSession.request, payload: GroupAgent.greeting)
            channel.send(
                .attach, request: ApplicationSession.request, payload: AttachRequest(session, receivedBytes: receivedBytes).encoded)
            // The guest's terminal has the size that it had at the checkpoint.
            if isTerminal, client != nil, let windowSize {
                channel.send(.resize, request: ApplicationSession.request, payload: windowSize.encoded)
            }
            if client?.hasRoom == false { channel.pauseReading(true) }
            if let pendingSignal { signal(pendingSignal) }
            pendingSignal = nil
        } catch {
            tell(.lost("\(error)"))
        }
    }

    /// Lets go of the connection to the agent; what happens to it is not reported.
    func forgetAgent() {
        agent?.abandon()
        agent = nil
        // It is not held back by one that is not there.
        client?.pauseReading(false)
    }

    /// Connects a client; there is one at a time.
    func attach(_ socket: SharedDescriptor) {
        let channel = FrameChannel(socket, loop: loop)
        do throws(SystemError) {
            guard client == nil else {
                try channel.start { _ in }
                let failure = Failure(.limit, "Another client is attached to the group")
                channel.send(.failed, request: ApplicationSession.request, payload: failure.encoded)
                return channel.closeAfterFlush()
            }
            client = channel
            try channel.start { [weak self, weak channel] happening in
                guard let self, let channel, client === channel else { return }
                clientDid(happening)
            }
            greetClient()
        } catch {
            client = nil
            EngineLog.write("Cannot attach a client: \(error)")
        }
    }

    /// Sends a signal to the program; where there is no connection to it just now, as soon as there is one again.
    func signal(_ signal: Int32) {
        guard let agent else {
            if pendingSignal != SIGKILL { pendingSignal = signal }
            return
        }
        agent.send(.signal, request: ApplicationSession.request + 1, payload: SignalRequest(signal: signal).encoded)
    }

    /// Tells the client how all ended; `whenFlushed` is called once it has everything, or is gone.
    func conclude(_ end: Conclusion, whenFlushed: @escaping @Sendable () -> Void) {
        guard let client else { return whenFlushed() }
        afterClient = whenFlushed
        switch end {
        case .exited(let status): client.send(.exited, request: ApplicationSession.request, payload: status.encoded)
        case .failed(let failure): client.send(.failed, request: ApplicationSession.request, payload: failure.encoded)
        }
        client.closeAfterFlush()
    }

    /// How a group ended, as its client is told.
    enum Conclusion: Sendable {
        case exited(ExitStatus)
        case failed(Failure)
    }

    /// The group's status says that the program runs: the client may be told, and finds it said when it looks.
    func confirmStart() {
        isConfirmed = true
        greetClient()
    }

    private func greetClient() {
        guard let client, let number, isConfirmed else { return }
        client.send(.started, request: ApplicationSession.request, payload: SessionNumber(number).encoded)
        guard inputWindow > 0 else { return }
        client.send(
            .stdinCredit, request: ApplicationSession.request, payload: StdinCredit(UInt32(clamping: inputWindow)).encoded)
    }

    private func agentDid(_ happening: FrameChannel.Happening) {
        switch happening {
        case .frame(let frame) where frame.request == ApplicationSession.request: receive(frame)
        case .frame: break  // The answer to a signal; a program that is gone already needs none.
        case .hasRoom: client?.pauseReading(false)
        case .closed(let reason):
            agent = nil
            client?.pauseReading(false)
            tell(.lost(reason))
        }
    }

    private func tell(_ happening: Happening) {
        guard !report(happening) else { return }
        EngineLog.write("The connection to the guest's agent is given up: more has happened than can be looked at")
        forgetAgent()
    }

    private func receive(_ frame: Frame) {
        do throws(ProtocolFault) {
            switch (frame.type, phase) {
            case (.welcome, .greeting): if !frame.hasMore { phase = .starting }
            case (.failed, .greeting), (.failed, .starting):
                phase = .ended
                tell(.refused(try Failure(payload: frame.payload)))
            case (.started, .starting):
                phase = .running
                let number = try SessionNumber(payload: frame.payload).processNumber
                self.number = number
                tell(.started(number))
            case (.stdout, .running): output(frame, .stdout)
            case (.stderr, .running): output(frame, .stderr)
            case (.stdinCredit, .running): try grant(frame)
            case (.exited, .running):
                phase = .ended
                tell(.exited(try ExitStatus(payload: frame.payload)))
            default: throw ProtocolFault(.outOfOrder, at: 2)
            }
        } catch {
            agent?.close("\(error)")
        }
    }

    private func grant(_ frame: Frame) throws(ProtocolFault) {
        let bytes = Int(try StdinCredit(payload: frame.payload).bytes)
        // Grants of nothing would have no end.
        guard bytes > 0, bytes <= AgentLimits.stdinWindowBytes - inputWindow else { throw ProtocolFault(.tooLong) }
        inputWindow += bytes
        client?.send(.stdinCredit, request: ApplicationSession.request, payload: frame.payload)
    }

    private func output(_ frame: Frame, _ stream: LogRecord.Stream) {
        log.append(frame.payload, stream: stream)
        outputBytes.wrappingAdd(UInt64(frame.payload.count), ordering: .relaxed)
        guard let client else { return }
        client.send(frame.type, request: ApplicationSession.request, payload: frame.payload)
        // A client that does not read holds the program back, as a full pipe would; nothing is kept without limit.
        if !client.hasRoom { agent?.pauseReading(true) }
    }

    private func clientDid(_ happening: FrameChannel.Happening) {
        switch happening {
        case .frame(let frame): forward(frame)
        case .hasRoom: agent?.pauseReading(false)
        case .closed:
            client = nil
            afterClient?()
            agent?.pauseReading(false)
            // A program that reads from a client that went away sees the end of its input; a terminal stays for the next.
            if wantsInput, !isTerminal, number != nil { endInput() }
        }
    }

    private func endInput() {
        guard !inputHasEnded else { return }
        inputHasEnded = true
        agent?.send(.stdinEnd, request: ApplicationSession.request)
    }

    private func forward(_ frame: Frame) {
        switch frame.type {
        case .stdin where wantsInput || isTerminal:
            guard frame.payload.count <= inputWindow else { return client?.close("window exceeded") ?? () }
            inputWindow -= frame.payload.count
            agent?.send(.stdin, request: ApplicationSession.request, payload: frame.payload)
        case .stdinEnd: endInput()
        case .resize:
            guard let size = try? WindowSize(payload: frame.payload) else { return client?.close() ?? () }
            windowSize = size
            agent?.send(.resize, request: ApplicationSession.request, payload: frame.payload)
        case .signal:
            // Checked here: a malformed message would make the agent break off the program's own connection.
            guard let request = try? SignalRequest(payload: frame.payload) else { return client?.close() ?? () }
            // A program that is not there yet cannot take a signal; one that would end it ends the start.
            if number != nil { signal(request.signal) } else if StdioClient.ends(request.signal) { tell(.cancelled) }
        default: client?.close("unexpected message")
        }
        // An agent that does not read holds the client back; nothing is kept without limit.
        if agent?.hasRoom == false { client?.pauseReading(true) }
    }
}
