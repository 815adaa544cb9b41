internal import NIOCore
internal import NIOHTTP1

/// A request as the connection took it: whole, with a bounded body.
struct GatewayRequest: Sendable {
    var method: HTTPMethod
    /// The path's parts, percent-decoded.
    var path: [String]
    /// The query's parameters, percent-decoded, in their order.
    var parameters: [(name: String, value: String)]
    /// The last value of each of them.
    var query: [String: String]
    var headers: HTTPHeaders
    var body: [UInt8]

    /// Reads a request's head; nil when its target is not a path with valid escapes.
    init?(_ head: HTTPRequestHead, body: [UInt8] = []) {
        method = head.method
        headers = head.headers
        self.body = body
        guard head.uri.utf8.first == UInt8(ascii: "/") else { return nil }
        let target = head.uri.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
        var parts: [String] = []
        for part in target[0].split(separator: "/") {
            guard let decoded = PercentEncoding.decode(part.utf8) else { return nil }
            parts.append(decoded)
        }
        path = parts
        var parameters: [(name: String, value: String)] = []
        for pair in (target.count > 1 ? target[1] : "").split(separator: "&") {
            let words = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = PercentEncoding.decode(words[0].utf8),
                let value = words.count > 1 ? PercentEncoding.decode(words[1].utf8) : ""
            else { return nil }
            parameters.append((name, value))
        }
        self.parameters = parameters
        query = Dictionary(parameters.map { ($0.name, $0.value) }) { $1 }
    }

    /// The first value of a header field.
    func header(_ name: String) -> String? { headers.first(name: name) }
}

/// An answer to be sent.
struct GatewayResponse: Sendable {
    var status: Int
    var headers: HTTPHeaders
    var body: [UInt8]

    /// An answer with a body of some type.
    init(status: Int, contentType: String = "application/json", body: [UInt8] = []) {
        self.status = status
        headers = HTTPHeaders()
        if !body.isEmpty { headers.add(name: "Content-Type", value: contentType) }
        self.body = body
    }
}

/// Escapes of RFC 3986.
enum PercentEncoding {
    /// The text that is meant; nil for an escape that is none, or for what is not UTF-8.
    static func decode(_ text: Substring.UTF8View) -> String? {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count)
        var rest = text[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = rest.popFirst().flatMap(digit), let low = rest.popFirst().flatMap(digit) else { return nil }
            bytes.append(high << 4 | low)
        }
        return String(validating: bytes, as: UTF8.self)
    }

    /// A text that may stand in any part of a path or query.
    static func encode(_ text: String) -> String {
        var result = ""
        for byte in text.utf8 {
            switch byte {
            case 48...57, 65...90, 97...122, 45, 46, 95, 126: result.unicodeScalars.append(UnicodeScalar(byte))
            default:
                let digits = String(byte, radix: 16, uppercase: true)
                result += digits.utf8.count == 1 ? "%0\(digits)" : "%\(digits)"
            }
        }
        return result
    }

    private static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case 48...57: byte - 48
        case 65...70: byte - 55
        case 97...102: byte - 87
        default: nil
        }
    }
}
