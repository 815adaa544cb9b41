internal import CLinux
internal import Linux

/// Sends one request to a Unix socket and waits for the answer.
public enum HTTPClient {
    /// Sends a request.
    ///
    /// - Parameter timeoutMilliseconds: how long any one step may take.
    /// - Throws: `GroupError`: `.notRunning` when nobody listens, or goes before the answer; `.host` when the answer is none.
    public static func send(_ request: HTTPRequest, to path: String, timeoutMilliseconds: Int32 = 30_000) throws(GroupError) -> HTTPResponse
    {
        do {
            let socket = try Socket.connect(unix: path)
            let number = socket.rawValue
            try systemCall("limit waiting on", path) { clinux_socket_timeouts(number, timeoutMilliseconds) }
            try DescriptorIO.sendAll(HTTPCodec.encode(request), to: number, what: path)
            var bytes: [UInt8] = []
            var chunk = [UInt8](repeating: 0, count: 65536)
            while true {
                if let response = try HTTPCodec.parseResponse(bytes) { return response }
                let count = try DescriptorIO.read(number, into: &chunk, what: path)
                if count == 0, bytes.isEmpty { throw GroupError(.notRunning, "\(path) ended the connection before it had answered") }
                guard count > 0 else { throw HTTPFault(status: 502, description: "The answer ends too early") }
                bytes += chunk[..<count]
            }
        } catch let error as GroupError {
            throw error
        } catch let error as SystemError {
            // Also one that goes in the midst of it: who served the socket is no more.
            let isGone = [.noEntry, .connectionRefused, .connectionReset, .brokenPipe].contains(error.errno)
            throw GroupError(isGone ? .notRunning : .host, error.errno == .wouldBlock ? "\(path) did not answer in time" : "\(error)")
        } catch {
            throw GroupError(.host, "Strange answer of \(path): \(error)")
        }
    }
}
