public import AgentProtocol
internal import CLinux
public import Linux

/// Connects to a port of a guest through its group's vsock socket.
public enum VsockDialer {
    /// The most bytes of the answer line `OK <port>`.
    private static let answerBytesMax = 32

    /// Connects to a vsock port of the guest behind `path`, with Firecracker's `CONNECT <port>` convention.
    ///
    /// - Throws: `AgentError`; `.disconnected` when nothing listens on the port in the guest.
    public static func connect(
        _ path: String, port: UInt32 = AgentLimits.vsockPort, timeout: Duration = .seconds(10)
    ) throws(AgentError) -> OwnedDescriptor {
        let socket = try wrapped { () throws(SystemError) in try Socket.connect(unix: path) }
        let number = socket.rawValue
        let line = [UInt8]("CONNECT \(port)\n".utf8)
        let sent = line.withUnsafeBytes { clinux_send(number, $0.baseAddress, $0.count) }
        guard sent == line.count else { throw .disconnected("connect to port \(port) of the guest") }
        try readAnswer(number, Deadline(after: timeout), "connect to port \(port) of the guest")
        return socket
    }

    private static func wrapped<Value: ~Copyable>(_ body: () throws(SystemError) -> Value) throws(AgentError) -> Value {
        do throws(SystemError) { return try body() } catch { throw .system(error) }
    }

    /// Reads `OK <port>` byte by byte: what follows belongs to the guest.
    private static func readAnswer(_ socket: Int32, _ deadline: Deadline, _ what: String) throws(AgentError) {
        var answer: [UInt8] = []
        while answer.last != UInt8(ascii: "\n") {
            guard answer.count < answerBytesMax else { throw .fault(ProtocolFault(.tooLong, at: answer.count)) }
            var entry = pollfd(fd: socket, events: Int16(POLLIN), revents: 0)
            if clinux_poll(&entry, 1, deadline.pollMilliseconds) == 0 { throw .timedOut(what) }
            var byte: UInt8 = 0
            let got = clinux_read(socket, &byte, 1)
            if got == -Int(EINTR) || got == -Int(EAGAIN) { continue }
            guard got == 1 else { throw .disconnected(what) }
            answer.append(byte)
        }
        guard answer.starts(with: "OK ".utf8) else { throw .fault(ProtocolFault(.badValue)) }
    }
}
