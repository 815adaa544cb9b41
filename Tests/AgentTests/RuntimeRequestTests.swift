import AgentProtocol
import GuestAgentCore
import Testing

/// What a runtime's HTTP client may send, and what it may not.
@Suite struct RuntimeRequestTests {
    /// What a parser made of some bytes.
    private struct Read: Equatable {
        var heads: [RuntimeRequest] = []
        var bodies: [[UInt8]] = []
        var trailers: [Text] = []
        var fault: RuntimeRequestFault?
    }

    /// Reads bytes in pieces of a length.
    private func read(_ text: String, by length: Int = .max) -> Read {
        var parser = RuntimeRequestParser()
        var result = Read()
        var body: [UInt8] = []
        var rest = [UInt8](text.utf8)[...]
        do throws(RuntimeRequestFault) {
            while !rest.isEmpty {
                let piece = [UInt8](rest.prefix(length))
                rest = rest.dropFirst(piece.count)
                var position = 0
                loop: while true {
                    switch try parser.next(piece.span, &position) {
                    case .needsMore: break loop
                    case .head(let head): result.heads.append(head)
                    case .body(let range): body += piece[range]
                    case .end(let errorType):
                        result.bodies.append(body)
                        result.trailers.append(errorType)
                        body = []
                    }
                }
            }
        } catch { result.fault = error }
        return result
    }

    private static let prefix = "/2018-06-01/runtime/"

    @Test(arguments: [
        ("GET", "invocation/next", RuntimeRequest.Target.invocationNext), ("GET", "restore/next", .restoreNext),
        ("POST", "init/error", .initializationError), ("POST", "restore/error", .restoreError),
        ("POST", "invocation/8f-1/response", .response("8f-1")), ("POST", "invocation/x/error", .error("x")),
        ("GET", "invocation/x/response", .unknown), ("POST", "invocation/next", .unknown), ("POST", "invocation//response", .unknown),
        ("POST", "invocation/a/b/response", .unknown), ("GET", "", .unknown), ("PUT", "init/error", .unknown),
    ])
    func paths(method: String, path: String, target: RuntimeRequest.Target) {
        let result = read("\(method) \(Self.prefix)\(path) HTTP/1.1\r\nHost: x\r\n\r\n")
        #expect(result.heads.map(\.target) == [target])
        #expect(result.bodies == [[]])
    }

    @Test func everyCutGivesTheSame() {
        let text =
            "\r\nPOST \(Self.prefix)invocation/a/response HTTP/1.1\r\nContent-Type: text/plain \r\nCONTENT-LENGTH:5\r\n\r\nhello"
            + "GET \(Self.prefix)invocation/next HTTP/1.1\nConnection: close\n\n"
            + "POST \(Self.prefix)invocation/b/error HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n"
            + "Lambda-Runtime-Function-Error-Type: A\r\n\r\n3;x=y\r\nabc\r\n1 \r\nd\r\n0\r\n"
            + "Lambda-Runtime-Function-Error-Type: B\r\n\r\n"
        let whole = read(text)
        #expect(whole.heads.map(\.target) == [.response("a"), .invocationNext, .error("b")])
        #expect(whole.heads.map(\.contentType) == ["text/plain", "", ""])
        #expect(whole.heads.map(\.errorType) == ["", "", "A"])
        #expect(whole.heads.map(\.keepsAlive) == [true, false, true])
        #expect(whole.bodies == [Array("hello".utf8), [], Array("abcd".utf8)])
        #expect(whole.trailers == ["", "", "B"])
        #expect(whole.fault == nil)
        for length in 1...text.utf8.count { #expect(read(text, by: length) == whole, "cut every \(length) bytes") }
    }

    @Test func aLongHeaderThatNobodyReadsIsSkipped() {
        let tracing = String(repeating: "x", count: 1_100_000)
        let result = read(
            "POST \(Self.prefix)invocation/a/error HTTP/1.1\r\nLambda-Runtime-Function-XRay-Error-Cause: \(tracing)\r\n"
                + "Content-Length: 2\r\n\r\n{}", by: 65_536)
        #expect(result.fault == nil)
        #expect(result.bodies == [Array("{}".utf8)])
    }

    @Test(arguments: [
        ("GET / HTTP/2.0\r\n\r\n", 505), ("GET /\r\n\r\n", 400), ("GET  / HTTP/1.1\r\n\r\n", 400), ("\u{16}\u{3}\u{1}\r\n", 400),
        ("GET / HTTP/1.1\r\nA b: c\r\n\r\n", 400), ("GET / HTTP/1.1\r\n: c\r\n\r\n", 400), ("GET / HTTP/1.1\r\nabc\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400), ("POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", 400),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n", 400),
        ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n", 400),
    ])
    func isRefused(text: String, status: Int) {
        #expect(read(text).fault == RuntimeRequestFault(status))
    }

    @Test(arguments: [
        ("GET /", "a", 9_000, 414), ("GET / HTTP/1.1\r\n", "a", 9_000, 431), ("GET / HTTP/1.1\r\nContent-Type: ", "a", 9_000, 431),
        ("GET / HTTP/1.1\r\n", "A: b\r\n", 129, 431), ("GET / HTTP/1.1\r\nX: ", "a", 3_000_000, 431),
    ])
    func whatHasNoEndIsRefused(start: String, repeated: String, count: Int, status: Int) {
        // The text is not told: it would fill the log.
        let isRefused = read(start + String(repeating: repeated, count: count)).fault == RuntimeRequestFault(status)
        #expect(isRefused)
    }

    /// Random mutations: any outcome but a trap is fine, and the pieces do not depend on how the bytes are cut.
    @Test func hostileBytes() {
        let seed = UInt64.random(in: 1 ... .max)
        var generator = SeededGenerator(seed: seed)
        let sample =
            "POST \(Self.prefix)invocation/a/response HTTP/1.1\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n3\r\nabc\r\n0\r\nA: b\r\n\r\n"
            + "POST \(Self.prefix)init/error HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
        let odd: [Character] = ["\r", "\n", ":", " ", "0", "f", ";", "/", "\u{0}", "A"]
        for _ in 0..<3_000 {
            var text = Array(sample)
            for _ in 0..<Int.random(in: 1...4, using: &generator) {
                let index = Int.random(in: 0..<text.count, using: &generator)
                guard let character = odd.randomElement(using: &generator) else { continue }
                switch Int.random(in: 0..<3, using: &generator) {
                case 0: text[index] = character
                case 1: text.insert(character, at: index)
                default: text.remove(at: index)
                }
            }
            let whole = String(text)
            #expect(read(whole) == read(whole, by: Int.random(in: 1...7, using: &generator)), "seed \(seed)")
        }
    }
}
