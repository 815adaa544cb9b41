#if !hasFeature(Embedded)
    internal import AgentProtocol
#endif

/// Takes the bytes of an HTTP/1.1 connection apart into requests to the runtime API.
///
/// Holds one header line at most. A header that nobody here reads may be much longer: `awslambdaric` sends up to 1 MiB of tracing data.
public struct RuntimeRequestParser {
    /// The most bytes of the request line and of a header that is read.
    public static let lineBytesMax = 8_192
    /// The most bytes of all headers together.
    public static let headBytesMax = 2_097_152
    /// The most header lines.
    public static let headerCountMax = 128
    /// The most bytes that a body may announce: all of it is read and dropped when it is too long.
    public static let bodyBytesMax = 1 << 40

    private enum Step {
        case requestLine, headers, body, chunkSize, chunk, chunkEnd, trailers, end, failed
    }
    private var step = Step.requestLine
    private var line: [UInt8] = []
    private var skipsLine = false
    private var headBytes = 0
    private var headerCount = 0
    private var request = RuntimeRequest()
    private var contentLength: Int?
    private var isChunked = false
    private var left = 0

    /// Starts a connection.
    public init() {}

    /// Whether a request has begun and is not over.
    public var isWithinRequest: Bool { step != .requestLine || !line.isEmpty }

    /// The next piece of the input after `position`, which moves on.
    ///
    /// - Throws: `RuntimeRequestFault`; nothing after it can be understood.
    public mutating func next(_ input: Span<UInt8>, _ position: inout Int) throws(RuntimeRequestFault) -> RuntimeRequestPiece {
        while true {
            switch step {
            case .end:
                let errorType = request.errorType
                self = RuntimeRequestParser()
                return .end(errorType: errorType)
            case .body, .chunk:
                if left == 0 {
                    step = step == .body ? .end : .chunkEnd
                    continue
                }
                guard position < input.count else { return .needsMore }
                let count = min(left, input.count - position)
                defer { position += count }
                left -= count
                return .body(position..<position + count)
            case .failed: throw fail(400)
            default:
                guard try readLine(input, &position) else { return .needsMore }
                if let piece = try takeLine() { return piece }
            }
        }
    }

    private mutating func fail(_ status: Int) -> RuntimeRequestFault {
        step = .failed
        return RuntimeRequestFault(status)
    }

    /// Collects bytes up to a line feed; false when it has not come yet.
    private mutating func readLine(_ input: Span<UInt8>, _ position: inout Int) throws(RuntimeRequestFault) -> Bool {
        while position < input.count {
            let byte = input[position]
            position += 1
            headBytes += 1
            guard headBytes <= RuntimeRequestParser.headBytesMax else { throw fail(431) }
            if byte == 10 {
                if line.last == 13 { line.removeLast() }
                return true
            }
            if skipsLine { continue }
            guard line.count < RuntimeRequestParser.lineBytesMax else {
                try skipLongLine()
                continue
            }
            line.append(byte)
        }
        return false
    }

    /// A line that is too long to be kept is skipped when it is a header that nobody reads.
    private mutating func skipLongLine() throws(RuntimeRequestFault) {
        guard step == .headers || step == .trailers else { throw fail(step == .requestLine ? 414 : 400) }
        let name = RuntimeRequestParser.lowercase(line.prefix { $0 != UInt8(ascii: ":") })
        guard name.count < line.count, !RuntimeRequestParser.isRead(Text(name)) else { throw fail(431) }
        skipsLine = true
    }

    private mutating func takeLine() throws(RuntimeRequestFault) -> RuntimeRequestPiece? {
        defer {
            line.removeAll(keepingCapacity: true)
            skipsLine = false
        }
        switch step {
        case .requestLine:
            // Empty lines before a request are tolerated, as RFC 9112 asks.
            if !line.isEmpty { try takeRequestLine() }
        case .headers:
            guard line.isEmpty else { return try takeHeader() }
            return try endHead()
        case .chunkSize: try takeChunkSize()
        case .chunkEnd:
            guard line.isEmpty else { throw fail(400) }
            step = .chunkSize
        default:
            guard line.isEmpty else { return try takeHeader() }
            step = .end
        }
        return nil
    }

    private mutating func takeRequestLine() throws(RuntimeRequestFault) {
        let words = line.split(separator: 32, omittingEmptySubsequences: false)
        guard words.count == 3, !words[0].isEmpty, words[1].first == UInt8(ascii: "/") else { throw fail(400) }
        let version = Text(words[2])
        guard version == "HTTP/1.1" || version == "HTTP/1.0" else { throw fail(version.hasPrefix("HTTP/") ? 505 : 400) }
        request.keepsAlive = version == "HTTP/1.1"
        request.target = RuntimeRequest.target(method: Text(words[0]), path: Text(words[1]))
        step = .headers
    }

    private static func isRead(_ name: Text) -> Bool {
        name == "content-length" || name == "transfer-encoding" || name == "connection" || name == "expect" || name == "content-type"
            || name == "lambda-runtime-function-error-type"
    }

    private mutating func takeHeader() throws(RuntimeRequestFault) -> RuntimeRequestPiece? {
        headerCount += 1
        guard headerCount <= RuntimeRequestParser.headerCountMax else { throw fail(431) }
        if skipsLine { return nil }
        guard let colon = line.firstIndex(of: UInt8(ascii: ":")), colon > 0 else { throw fail(400) }
        for byte in line[..<colon] where byte <= 32 || byte == 127 { throw fail(400) }
        let name = Text(RuntimeRequestParser.lowercase(line[..<colon]))
        let value = RuntimeRequestParser.trimmed(line[(colon + 1)...])
        if name == "lambda-runtime-function-error-type" {
            request.errorType = Text(value)
        } else if step == .headers {
            try take(name, value)
        }
        return nil
    }

    /// Takes a header that says how the request is read or answered.
    private mutating func take(_ name: Text, _ value: [UInt8]) throws(RuntimeRequestFault) {
        if name == "content-length" {
            var scanner = TextScanner(value)
            guard let length = scanner.unsigned(), scanner.isAtEnd, length <= UInt64(RuntimeRequestParser.bodyBytesMax) else {
                throw fail(400)
            }
            guard contentLength == nil || contentLength == Int(length) else { throw fail(400) }
            contentLength = Int(length)
        } else if name == "transfer-encoding" {
            guard Text(RuntimeRequestParser.lowercase(value[...])) == "chunked", !isChunked else { throw fail(501) }
            isChunked = true
        } else if name == "connection" {
            let choice = Text(RuntimeRequestParser.lowercase(value[...]))
            if choice == "close" { request.keepsAlive = false }
            if choice == "keep-alive" { request.keepsAlive = true }
        } else if name == "expect" {
            request.expectsContinue = Text(RuntimeRequestParser.lowercase(value[...])) == "100-continue"
        } else if name == "content-type" {
            request.contentType = Text(value)
        }
    }

    private mutating func endHead() throws(RuntimeRequestFault) -> RuntimeRequestPiece {
        // Both lengths at once would let two readers see two different bodies.
        guard !isChunked || contentLength == nil else { throw fail(400) }
        left = contentLength ?? 0
        step = isChunked ? .chunkSize : .body
        let head = request
        request.errorType = Text()
        return .head(head)
    }

    private mutating func takeChunkSize() throws(RuntimeRequestFault) {
        var size = TextScanner(RuntimeRequestParser.lowercase(line.prefix { $0 != UInt8(ascii: ";") }))
        guard size.peek != 32, let count = size.unsigned(16), count <= UInt64(RuntimeRequestParser.bodyBytesMax) else { throw fail(400) }
        size.skipBlanks()
        guard size.isAtEnd else { throw fail(400) }
        // Sizes of chunks are no part of the head.
        headBytes = 0
        left = Int(count)
        step = count == 0 ? .trailers : .chunk
    }

    private static func lowercase(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
        var result = [UInt8](bytes)
        for index in 0..<result.count where (65...90).contains(result[index]) { result[index] += 32 }
        return result
    }

    private static func trimmed(_ bytes: ArraySlice<UInt8>) -> [UInt8] {
        var rest = bytes
        while let first = rest.first, first == 32 || first == 9 { rest = rest.dropFirst() }
        while let last = rest.last, last == 32 || last == 9 { rest = rest.dropLast() }
        return [UInt8](rest)
    }
}
