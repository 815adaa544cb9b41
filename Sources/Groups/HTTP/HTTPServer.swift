internal import CLinux
public import Linux
import Synchronization

/// Answers HTTP requests on a Unix socket, each connection on a thread of its own so that a handler may wait for the guest.
public final class HTTPServer: Sendable {
    /// Answers one request.
    public typealias Handler = @Sendable (HTTPRequest) -> HTTPResponse

    /// The most requests at once; further ones are told to come back.
    public static let connectionsMax = 16
    /// A client that sends nothing, or reads nothing, is let go after this.
    static let timeoutMilliseconds: Int32 = 10_000

    private let listener: SharedDescriptor
    private let loop: EventLoop
    private let handler: Handler
    private let active = Atomic<Int>(0)

    /// Serves a socket at a path, accepting on a loop.
    ///
    /// - Throws: `SystemError` with the path.
    public init(path: String, loop: EventLoop, handler: @escaping Handler) throws(SystemError) {
        listener = SharedDescriptor(try Socket.listen(unix: path))
        try Socket.setNonBlocking(listener.rawValue)
        self.loop = loop
        self.handler = handler
        // The registration ends with the loop: a server lives as long as its process does.
        _ = try loop.register(listener.rawValue) { [weak self] _ in self?.accept() }
    }

    private func accept() {
        guard let number = Int32(exactly: clinux_accept_blocking(listener.rawValue)), number >= 0 else { return }
        let client = SharedDescriptor(OwnedDescriptor(adopting: number))
        guard active.add(1, ordering: .relaxed).newValue <= HTTPServer.connectionsMax else {
            active.subtract(1, ordering: .relaxed)
            _ = clinux_socket_timeouts(number, 100)
            HTTPServer.send(HTTPServer.failure(503, "More than \(HTTPServer.connectionsMax) requests at once"), to: client)
            return
        }
        do throws(SystemError) {
            try DetachedThread.start("control") { [self] in
                serve(client)
                active.subtract(1, ordering: .relaxed)
            }
        } catch {
            active.subtract(1, ordering: .relaxed)
        }
    }

    private func serve(_ client: SharedDescriptor) {
        _ = clinux_socket_timeouts(client.rawValue, HTTPServer.timeoutMilliseconds)
        do throws(HTTPFault) {
            guard let request = try receive(client) else { return }
            HTTPServer.send(handler(request), to: client)
        } catch {
            HTTPServer.send(HTTPServer.failure(error.status, error.description), to: client)
        }
    }

    private func receive(_ client: SharedDescriptor) throws(HTTPFault) -> HTTPRequest? {
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 4096)
        while true {
            if let request = try HTTPCodec.parseRequest(bytes) { return request }
            let count = clinux_recv(client.rawValue, &chunk, chunk.count)
            guard count > 0 else { return nil }
            bytes += chunk[..<count]
        }
    }

    private static func send(_ response: HTTPResponse, to client: SharedDescriptor) {
        let bytes = HTTPCodec.encode(response)
        var start = 0
        while start < bytes.count {
            let count = bytes.withUnsafeBytes { clinux_send(client.rawValue, $0.baseAddress.map { $0 + start }, $0.count - start) }
            guard count > 0 else { return }
            start += count
        }
    }

    /// An answer that says what went wrong: `{"error": …}`.
    public static func failure(_ status: Int, _ message: String) -> HTTPResponse {
        HTTPResponse(status: status, body: (try? StateFile.encode(ControlFailure(error: message))) ?? [])
    }
}
