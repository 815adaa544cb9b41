import CLinux
import Groups
import Linux
import Testing

@Suite struct HTTPTests {
    private func request(_ text: String) throws -> HTTPRequest? { try HTTPCodec.parseRequest(Array(text.utf8)) }

    @Test func requestsComeBackAsTheyWere() throws {
        let seed = UInt64.random(in: 0 ... .max)
        var generator = SeededGenerator(seed: seed)
        for _ in 0..<300 {
            var wanted = HTTPRequest(method: ["GET", "POST"].randomElement(using: &generator) ?? "GET", path: "/v1/x")
            for _ in 0..<Int.random(in: 0...3, using: &generator) {
                let text = String((0..<5).map { _ in Character(UnicodeScalar(UInt8.random(in: 0...127, using: &generator))) })
                wanted.parameters["k\(text)"] = text
            }
            wanted.body = (0..<Int.random(in: 0...50, using: &generator)).map { _ in UInt8.random(in: 0...255, using: &generator) }
            let bytes = HTTPCodec.encode(wanted)
            // Every shorter piece is not yet a request, and never an error.
            for count in [0, 1, bytes.count / 2, bytes.count - 1] { #expect(try HTTPCodec.parseRequest(Array(bytes[..<count])) == nil) }
            #expect(try HTTPCodec.parseRequest(bytes) == wanted, "seed \(seed)")
        }
    }

    @Test func responsesComeBackAsTheyWere() throws {
        let wanted = HTTPResponse(status: 404, body: Array("{}".utf8))
        #expect(try HTTPCodec.parseResponse(HTTPCodec.encode(wanted)) == wanted)
    }

    @Test(arguments: [
        ("GET /\r\n\r\n", 400), ("GET  / HTTP/1.1\r\n\r\n", 400), ("GET x HTTP/1.1\r\n\r\n", 400), ("GET / HTTP/2\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nnocolon\r\n\r\n", 400), ("GET / HTTP/1.1\r\n: x\r\n\r\n", 400), ("GET / HTTP/1.1\r\n folded: x\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400), ("GET / HTTP/1.1\r\nContent-Length: +1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nContent-Length: 65537\r\n\r\n", 413),
        ("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 501), ("GET /?a=%2 HTTP/1.1\r\n\r\n", 400),
        ("GET /?a=%zz HTTP/1.1\r\n\r\n", 400), ("GET /\u{7f}é HTTP/1.1\r\n\r\n", 400), ("G\u{0}T / HTTP/1.1\r\n\r\n", 400),
    ])
    func badRequestsAreRefused(_ text: String, _ status: Int) {
        let fault = #expect(throws: HTTPFault.self) { try request(text) }
        #expect(fault?.status == status)
    }

    @Test func endlessHeaderIsRefused() {
        let fault = #expect(throws: HTTPFault.self) { try HTTPCodec.parseRequest([UInt8](repeating: 97, count: HTTPCodec.headBytesMax)) }
        #expect(fault?.status == 431)
    }

    @Test func randomBytesNeverTrap() {
        let seed = UInt64.random(in: 0 ... .max)
        var generator = SeededGenerator(seed: seed)
        let pieces = ["GET ", "/", "?", "%", "=", "&", " HTTP/1.1", "\r\n", "\r\n\r\n", "Content-Length: ", "3", ":", "\u{0}", "é"]
        for _ in 0..<5000 {
            var bytes: [UInt8] = []
            for _ in 0..<Int.random(in: 0..<20, using: &generator) {
                bytes +=
                    Bool.random(using: &generator)
                    ? Array((pieces.randomElement(using: &generator) ?? "").utf8) : [UInt8.random(in: 0...255, using: &generator)]
            }
            _ = try? HTTPCodec.parseRequest(bytes)
            _ = try? HTTPCodec.parseResponse(bytes)
        }
    }

    /// Whoever ends while it is asked is not running: at once, after the question, in the middle of the answer.
    @Test(arguments: [0, 1, 2]) func endOfTheServerIsAnAnswer(_ stage: Int) throws {
        let home = try TemporaryDirectory()
        let path = "\(home.path)/s"
        let listener = SharedDescriptor(try Socket.listen(unix: path))
        try DetachedThread.start("server") {
            let number = clinux_accept_blocking(listener.rawValue)
            guard number >= 0 else { return }
            let client = OwnedDescriptor(adopting: Int32(number))
            if stage > 0 {
                var chunk = [UInt8](repeating: 0, count: 4096)
                _ = clinux_recv(client.rawValue, &chunk, chunk.count)
            }
            if stage > 1 { _ = "HTTP/1.1 200".withCString { clinux_send(client.rawValue, $0, 12) } }
        }
        let error = #expect(throws: GroupError.self) { try HTTPClient.send(HTTPRequest(method: "GET", path: "/x"), to: path) }
        #expect(error?.kind == (stage < 2 ? .notRunning : .host), "\(String(describing: error))")
        withExtendedLifetime(listener) {}
    }

    @Test(.timeLimit(.minutes(5))) func serverOutlivesHostileClients() throws {
        let home = try TemporaryDirectory()
        let path = "\(home.path)/" + String(repeating: "long-directory-name/", count: 6)
        try DataDirectory.create(path)
        let loop = try EventLoop(name: "test")
        let socket = "\(path)control.sock"
        let server = try HTTPServer(path: socket, loop: loop) { HTTPResponse(status: 200, body: Array($0.path.utf8)) }
        // More clients than are served at once, each silent: the next are told so, and none is left hanging.
        var silent: [SharedDescriptor] = []
        for _ in 0..<HTTPServer.connectionsMax { silent.append(SharedDescriptor(try Socket.connect(unix: socket))) }
        #expect(try waitForStatus(503, socket))
        silent = []
        #expect(try waitForStatus(200, socket))
        loop.stop()
        withExtendedLifetime(server) {}
    }

    /// Who goes in the midst of a request does not run any more, whether that is seen in writing or in reading; no signal ends the client.
    @Test(arguments: [0, 20, 200_000]) func aServerThatGoesIsNotRunning(readsBytes: Int) throws {
        let home = try TemporaryDirectory()
        try DataDirectory.create(home.path)
        let path = "\(home.path)/control.sock"
        let listener = SharedDescriptor(try Socket.listen(unix: path))
        try DetachedThread.start("leaves") {
            let number = clinux_accept_blocking(listener.rawValue)
            guard number >= 0 else { return }
            let client = OwnedDescriptor(adopting: Int32(number))
            var chunk = [UInt8](repeating: 0, count: max(1, readsBytes))
            if readsBytes > 0 { _ = clinux_recv(client.rawValue, &chunk, chunk.count) }
        }
        var request = HTTPRequest(method: "POST", path: "/v1/pause")
        request.parameters = ["filler": String(repeating: "x", count: 400_000)]
        let error = #expect(throws: GroupError.self) { try HTTPClient.send(request, to: path) }
        #expect(error?.kind == .notRunning, "\(String(describing: error))")
    }

    private func waitForStatus(_ status: Int, _ path: String) throws -> Bool {
        for _ in 0..<200 {
            if try HTTPClient.send(HTTPRequest(method: "GET", path: "/x"), to: path).status == status { return true }
            usleep(10000)
        }
        return false
    }
}
