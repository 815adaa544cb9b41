public import AgentProtocol
internal import CLinux
public import Linux

/// Joins this process's standard streams, signals and terminal to a program in a guest, until the program ends.
public final class StdioClient {
    /// How it went.
    public enum Outcome: Sendable {
        /// The program ended.
        case exited(ExitStatus)
        /// It did not start, or its machine failed; the text is for the user.
        case failed(Failure)
        /// The connection ended without a word.
        case lost
        /// The program was started, and the caller wanted to know no more.
        case detached
    }

    /// What is wanted.
    public struct Options: Sendable {
        /// Whether standard input goes to the program.
        public var forwardsInput: Bool
        /// Whether the program has a terminal, which then is this process's.
        public var terminal: Bool
        /// Bytes of input that may be sent before the other side grants more.
        public var initialWindow: Int
        /// Whether to return as soon as the program runs.
        public var detachesOnceStarted: Bool
        /// Whether the program runs already and is to draw its screen anew.
        public var redraws: Bool

        /// Describes what is wanted.
        public init(
            forwardsInput: Bool, terminal: Bool, initialWindow: Int = 0, detachesOnceStarted: Bool = false, redraws: Bool = false
        ) {
            self.forwardsInput = forwardsInput
            self.terminal = terminal
            self.initialWindow = initialWindow
            self.detachesOnceStarted = detachesOnceStarted
            self.redraws = redraws
        }
    }

    /// Signals that are passed on.
    static let signals = [SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH]
    /// Whether a signal ends a program that does nothing about it, as a user means it who sends it while a group starts.
    static func ends(_ signal: Int32) -> Bool { [SIGINT, SIGTERM, SIGHUP, SIGQUIT].contains(signal) }

    /// Input is read in pieces of this many bytes.
    private static let chunkBytes = 32768
    private static let request: UInt32 = 1

    private let socket: SharedDescriptor
    private let options: Options
    /// Called once when the program runs.
    private let onStarted: () -> Void
    private var decoder = FrameDecoder()
    private var queue: [UInt8] = []
    private var window: Int
    private var isStarted = false
    private var inputHasEnded = false
    /// Found out at the start: a terminal that was closed is none any more.
    private let inputIsTerminal = TerminalMode.isTerminal(0)
    private var terminalIsGone = false
    private var brokenOutputs: Set<Int32> = []
    /// When the terminal gets its right size after a wrong one.
    private var settlesAt: Int64?
    /// How long a program has to see that its terminal has another size.
    private static let redrawMilliseconds: Int64 = 100
    /// A signal that asks for the end, before there is a program to take it.
    private var endWasAsked = false
    private var isGivenUp = false

    /// Takes over a connection on which the program was asked for.
    public init(_ socket: SharedDescriptor, _ options: Options, onStarted: @escaping () -> Void = {}) {
        self.socket = socket
        self.options = options
        self.onStarted = onStarted
        window = options.initialWindow
        inputHasEnded = !options.forwardsInput
    }

    /// Asks the agent for a program on a new connection, before `run`.
    public func request(start: StartRequest) {
        send(.hello, GroupAgent.greeting)
        send(.start, start.encoded)
    }

    /// Relays until the end.
    ///
    /// Signals of this process are passed on to the program meanwhile, but for the hang-up of its terminal, which ends the relay.
    ///
    /// - Throws: `SystemError` when the process has no room for descriptors.
    public func run() throws(SystemError) -> Outcome {
        let signals = OwnedDescriptor(
            adopting: Int32(
                try systemCall("receive", "signals") {
                    clinux_signal_descriptor(StdioClient.signals, Int32(StdioClient.signals.count))
                }))
        // An output that nobody reads is for the program in the guest to learn of.
        clinux_ignore_signal(SIGPIPE)
        try Socket.setNonBlocking(socket.rawValue)
        let mode = options.terminal && options.forwardsInput ? TerminalMode(raw: 0) : nil
        let outcome = relay(signals.rawValue)
        _ = consume mode
        return outcome
    }

    private func relay(_ signals: Int32) -> Outcome {
        while true {
            flush()
            let readsInput = isStarted && !inputHasEnded && window > 0 && queue.count < StdioClient.chunkBytes
            var descriptors = [
                pollfd(fd: socket.rawValue, events: Int16(POLLIN) | (queue.isEmpty ? 0 : Int16(POLLOUT)), revents: 0),
                pollfd(fd: signals, events: Int16(POLLIN), revents: 0),
                pollfd(fd: readsInput ? 0 : -1, events: Int16(POLLIN), revents: 0),
            ]
            let left = settlesAt.map { max(0, $0 - clinux_monotonic_milliseconds()) } ?? -1
            guard clinux_poll(&descriptors, 3, Int32(clamping: left)) >= 0 else { continue }
            if left == 0 { sendWindowSize() }
            if descriptors[1].revents != 0 { passSignal(signals) }
            if descriptors[2].revents != 0 { passInput() }
            if terminalIsGone { return .lost }
            if isGivenUp { return .failed(Failure(.system, Text("Interrupted before the program ran; the group may still be starting"))) }
            if descriptors[0].revents & ~Int16(POLLOUT) != 0, let outcome = receive() { return outcome }
        }
    }

    // MARK: - To the program

    private func send(_ type: MessageType, _ payload: [UInt8] = []) {
        // Signals and sizes carry a number of their own, so that their answers are not taken for the program's.
        let number = type == .signal ? StdioClient.request + 1 : StdioClient.request
        Frame.appendMessage(type, request: number, payload: payload, to: &queue)
    }

    private func flush() {
        while !queue.isEmpty {
            let sent = queue.withUnsafeBytes { clinux_send(socket.rawValue, $0.baseAddress, $0.count) }
            // A connection that is gone shows itself when it is read next.
            guard sent > 0 else { return }
            queue.removeFirst(sent)
        }
    }

    private func passSignal(_ signals: Int32) {
        while true {
            let signal = clinux_signal_read(signals)
            guard signal > 0 else { return }
            if signal == Int(SIGWINCH) {
                sendWindowSize()
            } else if signal == Int(SIGHUP), options.terminal, inputIsTerminal {
                terminalIsGone = true
            } else {
                let number = Int32(truncatingIfNeeded: signal)
                // Who asks twice does not want to wait for the answer of a guest that may never give one.
                if !isStarted, StdioClient.ends(number) { (isGivenUp, endWasAsked) = (endWasAsked, true) }
                send(.signal, SignalRequest(signal: number).encoded)
            }
        }
    }

    private func sendWindowSize() {
        guard options.terminal, let size = TerminalMode.size(of: 0) else { return }
        settlesAt = nil
        send(.resize, size.encoded)
    }

    /// Makes a program that drew its screen for somebody else draw it again: the kernel tells it of a size only when that changes.
    private func redraw() {
        guard options.terminal, var size = TerminalMode.size(of: 0) else { return }
        size.rows = size.rows > 1 ? size.rows - 1 : 2
        send(.resize, size.encoded)
        settlesAt = clinux_monotonic_milliseconds() + StdioClient.redrawMilliseconds
    }

    private func passInput() {
        var chunk = [UInt8](repeating: 0, count: min(window, StdioClient.chunkBytes))
        let count = clinux_read(0, &chunk, chunk.count)
        if count == -Int(EAGAIN) || count == -Int(EINTR) { return }
        guard count > 0 else {
            inputHasEnded = true
            // A terminal in raw mode ends by being closed only. That is not the program's concern: its own stays for the next client.
            if inputIsTerminal { terminalIsGone = true } else { send(.stdinEnd) }
            return
        }
        window -= count
        send(.stdin, Array(chunk[..<count]))
    }

    // MARK: - From the program

    private func receive() -> Outcome? {
        var chunk = [UInt8](repeating: 0, count: 131_072)
        let count = clinux_recv(socket.rawValue, &chunk, chunk.count)
        if count == -Int(EAGAIN) || count == -Int(EINTR) { return nil }
        guard count > 0 else { return .lost }
        decoder.append(chunk[..<count])
        do throws(ProtocolFault) {
            while let frame = try decoder.next() {
                if let outcome = try handle(frame) { return outcome }
            }
            return nil
        } catch {
            return .failed(Failure(.protocolFault, Text("\(error)")))
        }
    }

    private func handle(_ frame: Frame) throws(ProtocolFault) -> Outcome? {
        guard frame.request == StdioClient.request || frame.request == 0 else { return nil }
        switch frame.type {
        case .welcome: break
        case .stdout: write(frame.payload, to: 1)
        case .stderr: write(frame.payload, to: 2)
        case .started:
            isStarted = true
            onStarted()
            if options.detachesOnceStarted { return .detached }
            if options.redraws { redraw() } else { sendWindowSize() }
        case .stdinCredit: window = min(window + Int(try StdinCredit(payload: frame.payload).bytes), AgentLimits.stdinWindowBytes)
        case .exited: return .exited(try ExitStatus(payload: frame.payload))
        case .failed: return .failed(try Failure(payload: frame.payload))
        default: throw ProtocolFault(.outOfOrder, at: 2)
        }
        return nil
    }

    private func write(_ bytes: [UInt8], to descriptor: Int32) {
        // A client that is about to leave prints nothing: what a quick program wrote meanwhile is in the group's log.
        if options.detachesOnceStarted { return }
        guard !brokenOutputs.contains(descriptor) else { return }
        do throws(SystemError) {
            try DescriptorIO.writeAll(bytes, to: descriptor, what: "output")
        } catch {
            // Nobody reads any more: the program learns it the way it would from a pipe of its own.
            brokenOutputs.insert(descriptor)
            if error.errno == .brokenPipe { send(.signal, SignalRequest(signal: SIGPIPE).encoded) }
        }
    }
}
