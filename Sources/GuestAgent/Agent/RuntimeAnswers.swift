/// The HTTP answers of the Lambda runtime API.
enum RuntimeAnswers {
    /// What Lambda answers to an answer.
    static let accepted: [UInt8] = Text("{\"status\":\"OK\"}\n").bytes

    /// The head of the answer to `invocation/next`; the event follows.
    static func event(_ request: FunctionInvoke) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(1_024)
        append("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ", to: &bytes)
        bytes.append(contentsOf: Text.decimal(Int(request.payloadBytes)).bytes)
        appendHeader("\r\nLambda-Runtime-Aws-Request-Id: ", request.requestIdentifier, to: &bytes)
        appendHeader("\r\nLambda-Runtime-Deadline-Ms: ", Text.decimal(Int(request.deadlineMilliseconds)), to: &bytes)
        appendHeader("\r\nLambda-Runtime-Invoked-Function-Arn: ", request.functionARN, to: &bytes)
        appendHeader("\r\nLambda-Runtime-Trace-Id: ", request.traceIdentifier, to: &bytes)
        appendHeader("\r\nLambda-Runtime-Client-Context: ", request.clientContext, to: &bytes)
        appendHeader("\r\nLambda-Runtime-Cognito-Identity: ", request.cognitoIdentity, to: &bytes)
        appendHeader("\r\nLambda-Runtime-Aws-Tenant-Id: ", request.tenantIdentifier, to: &bytes)
        append("\r\n\r\n", to: &bytes)
        return bytes
    }

    /// Which function a warm runtime is: directory, numbers of user and groups (nothing for root), number of arguments, arguments,
    /// environment, with a zero byte between two.
    static func start(_ request: FunctionStart, _ identity: Identity) -> [UInt8] {
        var bytes = request.directory.bytes + [0]
        if identity != .root {
            bytes += Text.decimal(Int(identity.user)).bytes
            for group in [identity.group] + identity.groups { bytes += [UInt8(ascii: " ")] + Text.decimal(Int(group)).bytes }
        }
        bytes += [0] + Text.decimal(request.arguments.count).bytes
        for text in request.arguments + request.environment + [RuntimeProcess.address] {
            bytes.append(0)
            bytes.append(contentsOf: text.bytes)
        }
        return bytes
    }

    /// Appends a whole answer.
    static func append(_ status: Int, _ body: [UInt8], keepsAlive: Bool, to bytes: inout [UInt8]) {
        append("HTTP/1.1 ", to: &bytes)
        bytes.append(contentsOf: Text.decimal(status).bytes)
        append(reason(status), to: &bytes)
        append("\r\nContent-Type: application/json\r\nContent-Length: ", to: &bytes)
        bytes.append(contentsOf: Text.decimal(body.count).bytes)
        append(keepsAlive ? "\r\n\r\n" : "\r\nConnection: close\r\n\r\n", to: &bytes)
        bytes.append(contentsOf: body)
    }

    /// Appends the permission to send a body.
    static func appendContinue(to bytes: inout [UInt8]) { append("HTTP/1.1 100 Continue\r\n\r\n", to: &bytes) }

    /// An error as the runtime API tells it; both texts are this program's own.
    static func error(_ type: Text, _ message: Text) -> [UInt8] {
        var bytes: [UInt8] = []
        append("{\"errorMessage\":\"", to: &bytes)
        bytes.append(contentsOf: message.bytes)
        append("\",\"errorType\":\"", to: &bytes)
        bytes.append(contentsOf: type.bytes)
        append("\"}\n", to: &bytes)
        return bytes
    }

    private static func reason(_ status: Int) -> StaticString {
        switch status {
        case 200: " OK"
        case 202: " Accepted"
        case 403: " Forbidden"
        case 404: " Not Found"
        case 413: " Payload Too Large"
        default: status < 500 ? " Bad Request" : " Error"
        }
    }

    private static func appendHeader(_ name: StaticString, _ value: Text, to bytes: inout [UInt8]) {
        guard !value.isEmpty else { return }
        append(name, to: &bytes)
        bytes.append(contentsOf: value.bytes)
    }

    @inline(never)
    private static func append(_ text: StaticString, to bytes: inout [UInt8]) {
        for index in 0..<text.utf8CodeUnitCount { bytes.append(text.utf8Start[index]) }
    }
}
