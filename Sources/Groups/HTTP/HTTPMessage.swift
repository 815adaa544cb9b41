/// A request of HTTP/1.1 as the control socket takes it: RFC 9112 without chunked bodies, folding and pipelining.
///
/// Why not a library: the well kept Swift servers bring Foundation's networking (29 MiB resident measured with FlyingFox,
/// where a whole VMM shall cost 8), and the control socket needs one request a connection on a private Unix socket.
public struct HTTPRequest: Sendable, Hashable {
    /// The method, for example `GET`.
    public var method: String
    /// The path without its query.
    public var path: String
    /// The query's parameters, percent-decoded.
    public var parameters: [String: String]
    /// The body; empty when there is none.
    public var body: [UInt8]

    /// Describes a request.
    public init(method: String, path: String, parameters: [String: String] = [:], body: [UInt8] = []) {
        self.method = method
        self.path = path
        self.parameters = parameters
        self.body = body
    }
}

/// An answer of HTTP/1.1 with a JSON or text body.
public struct HTTPResponse: Sendable, Hashable {
    /// The status code.
    public var status: Int
    /// The media type of the body.
    public var contentType: String
    /// The body.
    public var body: [UInt8]

    /// Describes an answer.
    public init(status: Int, contentType: String = "application/json", body: [UInt8]) {
        self.status = status
        self.contentType = contentType
        self.body = body
    }
}

/// Why bytes are not HTTP, with the status code that says so.
public struct HTTPFault: Error, Hashable, Sendable, CustomStringConvertible {
    /// The status code to answer with.
    public let status: Int
    /// What is wrong.
    public let description: String
}

/// Reading and writing of HTTP messages; every length is bounded.
public enum HTTPCodec {
    /// The most bytes of a request or status line with its header fields.
    public static let headBytesMax = 16 << 10
    /// The most bytes of a request's body.
    public static let requestBodyBytesMax = 64 << 10
    /// The most bytes of an answer's body: a report on all objects of a large guest.
    public static let responseBodyBytesMax = 64 << 20

    /// Reads a request out of the bytes received so far; nil when more are needed.
    ///
    /// - Throws: `HTTPFault`; the connection is answered and closed.
    public static func parseRequest(_ bytes: [UInt8]) throws(HTTPFault) -> HTTPRequest? {
        guard let head = try head(of: bytes) else { return nil }
        let words = head.first.split(separator: " ", omittingEmptySubsequences: false)
        guard words.count == 3, words[2] == "HTTP/1.1" || words[2] == "HTTP/1.0", words[1].hasPrefix("/"), !words[0].isEmpty else {
            throw HTTPFault(status: 400, description: "Not a request line of HTTP/1.1")
        }
        guard head.fields["transfer-encoding"] == nil else {
            throw HTTPFault(status: 501, description: "Transfer-Encoding is not supported; send Content-Length")
        }
        guard let body = try body(of: bytes, head, bytesMax: requestBodyBytesMax) else { return nil }
        let target = words[1].split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        return HTTPRequest(
            method: String(words[0]), path: String(target[0]), parameters: try parameters(target.count > 1 ? target[1] : ""), body: body)
    }

    /// Reads an answer out of the bytes received so far; nil when more are needed.
    ///
    /// - Throws: `HTTPFault` for what is not an answer with a known length.
    public static func parseResponse(_ bytes: [UInt8]) throws(HTTPFault) -> HTTPResponse? {
        guard let head = try head(of: bytes) else { return nil }
        let words = head.first.split(separator: " ", maxSplits: 2, omittingEmptySubsequences: false)
        guard words.count >= 2, words[0] == "HTTP/1.1", let status = Int(words[1]), (100...599).contains(status) else {
            throw HTTPFault(status: 502, description: "Not a status line of HTTP/1.1")
        }
        guard let body = try body(of: bytes, head, bytesMax: responseBodyBytesMax) else { return nil }
        return HTTPResponse(status: status, contentType: head.fields["content-type"] ?? "", body: body)
    }

    /// A request's bytes.
    public static func encode(_ request: HTTPRequest) -> [UInt8] {
        let query = request.parameters.sorted { $0.key < $1.key }.map { "\(escape($0.key))=\(escape($0.value))" }.joined(separator: "&")
        let target = query.isEmpty ? request.path : "\(request.path)?\(query)"
        let head =
            "\(request.method) \(target) HTTP/1.1\r\nHost: aurora\r\nConnection: close\r\nContent-Length: \(request.body.count)\r\n\r\n"
        return Array(head.utf8) + request.body
    }

    /// An answer's bytes.
    public static func encode(_ response: HTTPResponse) -> [UInt8] {
        let head =
            "HTTP/1.1 \(response.status) \(reason(response.status))\r\nContent-Type: \(response.contentType)\r\n"
            + "Content-Length: \(response.body.count)\r\nConnection: close\r\n\r\n"
        return Array(head.utf8) + response.body
    }

    private struct Head {
        var first: Substring
        var fields: [String: String]
        var count: Int
    }

    private static let headEnd = Array("\r\n\r\n".utf8)

    private static func head(of bytes: [UInt8]) throws(HTTPFault) -> Head? {
        guard let end = firstRange(of: headEnd, in: bytes.prefix(headBytesMax)) else {
            guard bytes.count < headBytesMax else { throw HTTPFault(status: 431, description: "More than \(headBytesMax) bytes of header") }
            return nil
        }
        guard bytes[..<end].allSatisfy({ $0 < 0x80 && ($0 >= 0x20 || $0 == 13 || $0 == 10 || $0 == 9) }) else {
            throw HTTPFault(status: 400, description: "Header with bytes that are not printable ASCII")
        }
        let lines = String(decoding: bytes[..<end], as: UTF8.self).split(separator: "\r\n", omittingEmptySubsequences: false)
        var fields: [String: String] = [:]
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":"), colon != line.startIndex, line.first?.isWhitespace == false else {
                throw HTTPFault(status: 400, description: "A header field has no name or no colon")
            }
            let name = line[..<colon].lowercased()
            let value = String(line[line.index(after: colon)...].drop { $0 == " " || $0 == "\t" })
            // Two different lengths are how one message is smuggled in another.
            if name == "content-length", let known = fields[name], known != value {
                throw HTTPFault(status: 400, description: "Two values of Content-Length")
            }
            fields[name] = value
        }
        return Head(first: lines[0], fields: fields, count: end + headEnd.count)
    }

    private static func body(of bytes: [UInt8], _ head: Head, bytesMax: Int) throws(HTTPFault) -> [UInt8]? {
        let text = head.fields["content-length"] ?? "0"
        guard let count = Int(text), count >= 0, text.utf8.allSatisfy({ (48...57).contains($0) }) else {
            throw HTTPFault(status: 400, description: "Content-Length is not a number")
        }
        guard count <= bytesMax else { throw HTTPFault(status: 413, description: "A body of more than \(bytesMax) bytes") }
        guard bytes.count - head.count >= count else { return nil }
        return Array(bytes[head.count..<head.count + count])
    }

    private static func firstRange(of pattern: [UInt8], in bytes: ArraySlice<UInt8>) -> Int? {
        guard bytes.count >= pattern.count else { return nil }
        return (bytes.startIndex...bytes.endIndex - pattern.count).first { bytes[$0..<$0 + pattern.count].elementsEqual(pattern) }
    }

    private static func parameters(_ query: Substring) throws(HTTPFault) -> [String: String] {
        var result: [String: String] = [:]
        for pair in query.split(separator: "&") {
            let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            result[try unescape(parts[0])] = parts.count > 1 ? try unescape(parts[1]) : ""
        }
        return result
    }

    private static func unescape(_ text: Substring) throws(HTTPFault) -> String {
        var bytes: [UInt8] = []
        var rest = text.utf8[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard rest.count >= 2, let value = UInt8(String(decoding: rest.prefix(2), as: UTF8.self), radix: 16) else {
                throw HTTPFault(status: 400, description: "A percent sign without two hexadecimal digits")
            }
            bytes.append(value)
            rest = rest.dropFirst(2)
        }
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func escape(_ text: String) -> String {
        text.utf8.map { byte in
            let character = Character(UnicodeScalar(byte))
            let isPlain = byte < 0x80 && (character.isLetter || character.isNumber || "-._~".contains(character))
            let digits = String(byte, radix: 16, uppercase: true)
            return isPlain ? String(character) : "%" + (digits.utf8.count == 1 ? "0" : "") + digits
        }.joined()
    }

    private static func reason(_ status: Int) -> String {
        switch status {
        case 200: "OK"
        case 400: "Bad Request"
        case 404: "Not Found"
        case 405: "Method Not Allowed"
        case 409: "Conflict"
        case 413: "Content Too Large"
        case 431: "Request Header Fields Too Large"
        case 500: "Internal Server Error"
        case 501: "Not Implemented"
        case 503: "Service Unavailable"
        case 504: "Gateway Timeout"
        default: "Status \(status)"
        }
    }
}
