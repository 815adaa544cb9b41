internal import FoundationEssentials
internal import NIOHTTP1

/// What a served request is answered with, in Lambda's words.
struct InvokeAnswer {
    /// The most bytes of the log's end in an answer (`X-Amz-Log-Result`).
    static let logBytesMax = 4096

    let identifier: String
    let function: DeployedFunction
    let served: Served
    var logging = LoggingSettings()

    /// How it is counted.
    var outcome: GatewayMetrics.Outcome {
        switch served.outcome {
        case .success(let result): result.functionError == nil ? .success : .functionError
        case .failure(.timedOut): .timeout
        case .failure(.exited): .exit
        case .failure(.responseTooLarge): .tooLarge
        case .failure(.restoreHook): .functionError
        case .failure(.restore), .failure(.lost): .lost
        }
    }

    /// What went wrong in the function itself; nil: nothing did.
    var functionFailure: String? {
        switch served.outcome {
        case .success(let result):
            result.functionError.map { "\($0): \(String(decoding: result.payload.prefix(500), as: UTF8.self))" }
        case .failure(let error): error.description
        }
    }

    /// The body of the error that a client would be answered with; empty when it is not the function's.
    var errorPayload: [UInt8] {
        let response = response(withLog: false, log: [])
        return functionFailure != nil && response.status == 200 ? response.body : []
    }

    /// The function's lines with those that Lambda puts around them.
    var log: [UInt8] { logging.isJSON ? jsonLog : textLog }

    /// What the function printed, and why there is nothing more.
    private var printed: [UInt8] {
        var bytes = served.log
        switch served.outcome {
        case .success(let result): bytes = result.log
        case .failure(.exited(_, let text)): bytes = Array(text.utf8) + served.log
        case .failure: break
        }
        if let last = bytes.last, last != 10 { bytes.append(10) }
        return bytes
    }

    /// The most memory that the function has had, as its guest's kernel counted; nothing is said when that is not known.
    private var memoryPeakMB: Int? { served.memoryPeakBytes.map { ($0 >> 20) + ($0 & 0xF_FFFF == 0 ? 0 : 1) } }

    private var textLog: [UInt8] {
        let milliseconds = Double(served.served) / 1e6
        let billed = Int(milliseconds.rounded(.up))
        var report = "REPORT RequestId: \(identifier)\tDuration: \(InvokeAnswer.twoDigits(milliseconds)) ms\tBilled Duration: \(billed) ms"
        report += "\tMemory Size: \(function.memoryBytes >> 20) MB"
        if let peak = memoryPeakMB { report += "\tMax Memory Used: \(peak) MB" }
        if served.start != .reused { report += "\tRestore Duration: \(InvokeAnswer.twoDigits(Double(served.restored) / 1e6)) ms" }
        var lines = Array("START RequestId: \(identifier) Version: $LATEST\n".utf8)
        var note = ""
        switch served.outcome {
        case .success: break
        case .failure(.exited(let status, _)):
            note = "RequestId: \(identifier) Error: \(InvokeAnswer.exitReason(status))\nRuntime.ExitError\n"
        case .failure(.timedOut):
            note = "\(WallClock.iso(WallClock.milliseconds))Z \(identifier) \(timeoutText)\n\n"
        case .failure(let error): note = "RequestId: \(identifier) Error: \(error)\n"
        }
        lines += printed
        lines += Array("\(note)END RequestId: \(identifier)\n\(report)\t\n".utf8)
        return lines
    }

    /// Lambda's lines as JSON (`LoggingConfig`), unless they are not wanted.
    private var jsonLog: [UInt8] {
        guard !logging.isQuiet else { return printed }
        let time = "\(WallClock.iso(WallClock.milliseconds))Z"
        let head = #"{"time":"\#(time)","type":"platform."#
        var status = "success"
        switch served.outcome {
        case .success(let result): if result.functionError != nil { status = "error" }
        case .failure(.timedOut): status = "timeout"
        case .failure: status = "failure"
        }
        let milliseconds = Double(served.served) / 1e6
        var metrics = #""durationMs":\#(InvokeAnswer.twoDigits(milliseconds)),"billedDurationMs":\#(Int(milliseconds.rounded(.up)))"#
        metrics += #","memorySizeMB":\#(function.memoryBytes >> 20)"#
        if let peak = memoryPeakMB { metrics += #","maxMemoryUsedMB":\#(peak)"# }
        if served.start != .reused { metrics += #","restoreDurationMs":\#(InvokeAnswer.twoDigits(Double(served.restored) / 1e6))"# }
        let start = #"\#(head)start","record":{"requestId":"\#(identifier)","version":"$LATEST"}}"# + "\n"
        let end = #"\#(head)report","record":{"requestId":"\#(identifier)","metrics":{\#(metrics)},"status":"\#(status)"}}"# + "\n"
        return Array(start.utf8) + printed + Array(end.utf8)
    }

    /// The answer to a request whose function failed while it was initialized: the function's failure, in the runtime's words.
    static func initFailure(_ record: FunctionRecord, log: [UInt8]?) -> GatewayResponse {
        struct Body: Encodable {
            let errorType: String
            let errorMessage: String
        }
        let reason = record.reason ?? ""
        let words = Array(reason.utf8.drop { $0 != UInt8(ascii: "{") })
        let isJSON = !words.isEmpty && JSONText.fault(in: words) == nil
        let body = isJSON ? words : JSONBody.encode(Body(errorType: "Runtime.InitError", errorMessage: reason))
        var response = GatewayResponse(status: 200, body: body)
        response.headers.add(name: "X-Amz-Function-Error", value: "Unhandled")
        response.headers.add(name: "X-Amz-Executed-Version", value: "$LATEST")
        if let log { response.headers.add(name: "X-Amz-Log-Result", value: Data(log.suffix(logBytesMax)).base64EncodedString()) }
        return response
    }

    private var timeoutText: String { "Task timed out after \(function.timeoutSeconds).00 seconds" }

    /// The answer to the client; a lost instance is the gateway's failure, everything else the function's.
    func response(withLog: Bool, log: [UInt8]) -> GatewayResponse {
        var response: GatewayResponse
        switch served.outcome {
        case .success(let result):
            response = GatewayResponse(status: 200, body: result.payload)
            if let error = result.functionError { response.headers.add(name: "X-Amz-Function-Error", value: error) }
        case .failure(.timedOut): response = failed("Sandbox.Timedout", "RequestId: \(identifier) Error: \(timeoutText)")
        case .failure(.exited(let status, _)):
            response = failed("Runtime.ExitError", "RequestId: \(identifier) Error: \(InvokeAnswer.exitReason(status))")
        case .failure(.responseTooLarge(let limit)):
            response = failed(
                "Function.ResponseSizeTooLarge", "Response payload size exceeded maximum allowed payload size (\(limit) bytes).")
        case .failure(.restoreHook(let reason)):
            // The function's own failure: a client that tries again meets it again.
            return LambdaError.snapStart("The afterRestore() runtime hook encountered an error: \(reason)").response
        case .failure(let error): return LambdaError.gateway("\(error)").response
        }
        response.headers.add(name: "X-Amz-Executed-Version", value: "$LATEST")
        if withLog {
            let end = Data(log.suffix(InvokeAnswer.logBytesMax)).base64EncodedString()
            response.headers.add(name: "X-Amz-Log-Result", value: end)
        }
        return response
    }

    private func failed(_ type: String, _ message: String) -> GatewayResponse {
        struct Body: Encodable {
            let errorType: String
            let errorMessage: String
        }
        var response = GatewayResponse(status: 200, body: JSONBody.encode(Body(errorType: type, errorMessage: message)))
        response.headers.add(name: "X-Amz-Function-Error", value: "Unhandled")
        return response
    }

    /// How the runtime ended; statuses from 129 are signals, as shells have it.
    static func exitReason(_ status: Int32) -> String {
        switch status {
        case 0: return "Runtime exited without providing a reason"
        case 129...192: return "Runtime exited with error: signal: \(signals[status - 128] ?? "\(status - 128)")"
        default: return "Runtime exited with error: exit status \(status)"
        }
    }

    private static let signals: [Int32: String] = [
        1: "hangup", 2: "interrupt", 4: "illegal instruction", 6: "aborted", 7: "bus error", 8: "floating point exception", 9: "killed",
        11: "segmentation fault", 13: "broken pipe", 15: "terminated",
    ]

    static func twoDigits(_ value: Double) -> String {
        let hundredths = Int((value * 100).rounded())
        let rest = hundredths % 100
        return "\(hundredths / 100).\(rest < 10 ? "0" : "")\(rest)"
    }
}
