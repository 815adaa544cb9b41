import ArgumentParser
import FoundationEssentials
import Functions
import Groups
import Linux

/// `aurora fn invoke`.
struct FnInvokeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "invoke", abstract: "Invoke a function and print its answer.",
        discussion: "The exit code is 1 when the function failed; its error is printed all the same.")

    @OptionGroup var gateway: GatewayOptions
    @Argument(help: "The function's name.") var name: String
    @Option(parsing: .unconditional, help: ArgumentHelp("The event: JSON, @FILE, or - for standard input.", valueName: "json|@file|-"))
    var payload = "{}"
    @Flag(help: "Print the end of the log to standard error.") var log = false
    @Flag(name: .customLong("async"), help: "Have it invoked later; print the request's id.") var isAsynchronous = false

    func run() throws {
        let limit = GatewayLimits().payloadBytesMax
        let body: [UInt8] =
            switch payload {
            case "-": try FnArchive.readAll("/proc/self/fd/0", what: "The payload", bytesMax: limit)
            case let text where text.hasPrefix("@"): try FnArchive.readAll(String(text.dropFirst()), what: "The payload", bytesMax: limit)
            default: Array(payload.utf8)
            }
        var headers: [(String, String)] = []
        if isAsynchronous { headers.append(("X-Amz-Invocation-Type", "Event")) }
        if log { headers.append(("X-Amz-Log-Type", "Tail")) }
        let path = try GatewayOptions.path(name, "/invocations")
        // A request may take 15 minutes, and wait before.
        let answer = try gateway.send("POST", path, headers: headers, body: body, seconds: 960)
        if isAsynchronous { return print(answer.headers["x-amzn-requestid"] ?? "") }
        print(String(decoding: answer.body, as: UTF8.self))
        if let text = answer.headers["x-amz-log-result"], let bytes = Data(base64Encoded: text) {
            Terminal.writeError(FnLogsCommand.lines([UInt8](bytes)))
        }
        if answer.headers["x-amz-function-error"] != nil { throw ExitCode(ExitCodes.failure) }
    }
}
