import AgentClient
import AgentProtocol
import Foundation
import Linux
import Testing

/// A function in an agent that runs on this machine; the test plays the runtime, through the agent's own proxy.
final class FunctionFixture {
    let agent: AgentFixture
    let channel: FunctionChannel

    /// Starts a process that does nothing by itself, unless a script is given.
    init(script: String = "exec sleep 1000") throws {
        agent = try AgentFixture()
        channel = try FunctionFixture.connect(agent)
        #expect(try channel.attach() == .idle)
        try channel.start(FunctionStart(arguments: ["/bin/sh", "-c", Text(script)], environment: ["NAME=value"]))
    }

    /// A new connection of a host.
    static func connect(_ agent: AgentFixture) throws -> FunctionChannel {
        // The socket for agents comes first: when it can be reached, the other is there at once.
        _ = try agent.socket()
        usleep(20_000)
        return try FunctionChannel(adopting: try Socket.connect(unix: agent.socketPath + ".function"))
    }

    /// A connection of the runtime to its API.
    func runtime() throws -> RuntimeClient { RuntimeClient(try agent.client().proxy(port: FunctionLimits.runtimePort)) }

    static func request(_ identifier: Text = "r-1", context: Text = Text()) -> FunctionInvoke {
        FunctionInvoke(
            requestIdentifier: identifier, deadlineMilliseconds: 1_700_000_000_000, functionARN: "arn:aws:lambda:f",
            traceIdentifier: "Root=1", clientContext: context, payloadBytes: 0)
    }
}

/// The runtime's side of the Lambda runtime API, byte by byte.
///
/// One thread may send while another reads: they share the socket alone.
final class RuntimeClient: @unchecked Sendable {
    private let socket: OwnedDescriptor
    private var buffer: [UInt8] = []

    init(_ socket: consuming OwnedDescriptor) { self.socket = socket }

    /// Sends bytes.
    func send(_ bytes: [UInt8]) {
        var sent = 0
        while sent < bytes.count {
            let count = bytes.withUnsafeBytes {
                Glibc.send(socket.rawValue, $0.baseAddress.map { $0 + sent }, $0.count - sent, Int32(clamping: MSG_NOSIGNAL))
            }
            if count < 0 && errno == EAGAIN {
                usleep(500)
                continue
            }
            guard count > 0 else { return }
            sent += count
        }
    }

    func get(_ path: String) { send([UInt8]("GET /2018-06-01/runtime/\(path) HTTP/1.1\r\nHost: a\r\n\r\n".utf8)) }

    func post(_ path: String, _ body: [UInt8] = [], headers: String = "") {
        send([UInt8]("POST /2018-06-01/runtime/\(path) HTTP/1.1\r\nContent-Length: \(body.count)\r\n\(headers)\r\n".utf8) + body)
    }

    /// The next answer; nil when the connection ended.
    func answer() -> (status: Int, head: String, body: [UInt8])? {
        while true {
            if let end = range(of: [13, 10, 13, 10]) {
                let head = String(decoding: buffer[..<end], as: UTF8.self)
                let lines = head.split(separator: "\r\n")
                let length = lines.first { $0.lowercased().hasPrefix("content-length: ") }.flatMap { Int($0.dropFirst(16)) } ?? 0
                if buffer.count >= end + 4 + length {
                    let body = [UInt8](buffer[(end + 4)..<(end + 4 + length)])
                    buffer.removeFirst(end + 4 + length)
                    return (lines.first.flatMap { Int($0.split(separator: " ")[1]) } ?? 0, head, body)
                }
            }
            guard fill() else { return nil }
        }
    }

    private func range(of mark: [UInt8]) -> Int? {
        guard buffer.count >= mark.count else { return nil }
        return (0...(buffer.count - mark.count)).first { Array(buffer[$0..<($0 + mark.count)]) == mark }
    }

    private func fill() -> Bool {
        var piece = [UInt8](repeating: 0, count: 65_536)
        for _ in 0..<20_000 {
            let count = read(socket.rawValue, &piece, piece.count)
            if count > 0 {
                buffer += piece[..<count]
                return true
            }
            guard count < 0, errno == EAGAIN || errno == EINTR else { return false }
            usleep(500)
        }
        return false
    }
}
