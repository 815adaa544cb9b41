import ArgumentParser
import FoundationEssentials
import Functions
import Groups
import Linux

/// `aurora fn`: functions of a running gateway.
struct FnCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "fn", abstract: "Deploy, invoke and look at functions of a running gateway (aurora serve).",
        subcommands: [
            FnDeployCommand.self, FnInvokeCommand.self, FnListCommand.self, FnLogsCommand.self, FnStatCommand.self, FnEventsCommand.self,
            FnRemoveCommand.self,
        ])
}

/// Which gateway a command speaks to.
struct GatewayOptions: ParsableArguments {
    @Option(
        parsing: .unconditional, help: ArgumentHelp("The gateway; also $AURORA_ENDPOINT. Default: http://127.0.0.1:9000.", valueName: "url")
    )
    var endpoint: String?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "A file with the gateway's token; also $AURORA_TOKEN_FILE. That of a gateway of this user is found.", valueName: "file"))
    var tokenFile: String?

    private var environment: [String: String] { ProcessInfo.processInfo.environment }

    /// A client of the gateway.
    var client: GatewayClient {
        get throws {
            let address = endpoint ?? environment["AURORA_ENDPOINT"] ?? "http://127.0.0.1:9000"
            return try GatewayClient(endpoint: address, token: try token(for: address))
        }
    }

    /// The token that is named, else the one that a gateway of this data directory made; nobody but this host is shown that.
    private func token(for address: String) throws -> String? {
        if let path = tokenFile ?? environment["AURORA_TOKEN_FILE"] { return try TokenFile.read(path) }
        let own = TokenFile.own(CommandContext.data)
        guard SmallFile.exists(own), GatewayClient.isLoopback(address) else { return nil }
        return try TokenFile.read(own)
    }

    /// Sends a request; an answer that is an error becomes one.
    func send(
        _ method: String, _ path: String, headers: [(String, String)] = [], body: [UInt8] = [], seconds: Int = 60
    ) throws -> GatewayClient.Answer {
        let answer = try client.send(method, path, headers: headers, body: body, seconds: seconds)
        guard answer.status < 300 else { throw GatewayRefusal(answer) }
        return answer
    }

    /// The report on all functions.
    func status() throws -> StatusReport {
        try JSONDecoder().decode(StatusReport.self, from: Data(try send("GET", "/aurora/status").body))
    }

    /// The report on one function.
    func status(of name: String) throws -> StatusReport.Function {
        guard let function = try status().functions.first(where: { $0.name == name }) else {
            throw GroupError(.notFound, "There is no function named \(name)", remedy: "List the functions with: aurora fn ls")
        }
        return function
    }

    /// The path of a function's resource.
    static func path(_ name: String, _ rest: String = "") throws -> String {
        guard FunctionName.isValid(name) else {
            throw GroupError(
                .invalidValue, "\(name.prefix(80)) is not a name of a function", remedy: "Use letters, digits, - and _, at most 64.")
        }
        return "/2015-03-31/functions/\(name)\(rest)"
    }
}

/// A gateway's refusal, in its words.
struct GatewayRefusal: Error, CustomStringConvertible {
    let status: Int
    let type: String
    let message: String

    init(_ answer: GatewayClient.Answer) {
        struct Body: Decodable { let Message: String? }
        status = answer.status
        type = answer.headers["x-amzn-errortype"] ?? "status \(answer.status)"
        let body = try? JSONDecoder().decode(Body.self, from: Data(answer.body))
        message = body?.Message ?? String(decoding: answer.body.prefix(500), as: UTF8.self)
    }

    var description: String {
        let remedy = status == 403 ? "\nName the file with the gateway's token: --token-file FILE, or $AURORA_TOKEN_FILE" : ""
        return "\(message) (\(type))\(remedy)"
    }
}
