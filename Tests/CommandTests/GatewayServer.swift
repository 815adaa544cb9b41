import Foundation
import Functions
import Testing

/// `aurora serve` as a user has it, with directories of its own.
final class GatewayServer {
    let command: Command
    private(set) var process: Process
    private(set) var endpoint: String
    private let options: [String]
    private let logPath: String

    /// - Parameter prepare: what is done to its directories before it starts.
    init(_ options: [String] = [], prepare: (Command) throws -> Void = { _ in }) throws {
        command = try Command()
        try prepare(command)
        self.options = options
        logPath = "\(command.home)/serve.log"
        (process, endpoint) = try GatewayServer.launch(command, options, logPath)
    }

    deinit {
        if process.isRunning { kill(process.processIdentifier, SIGKILL) }
        process.waitUntilExit()
    }

    /// What it said on standard error.
    var log: String { (try? String(contentsOfFile: logPath, encoding: .utf8)) ?? "" }

    /// Starts it again in the same directories.
    func restart() throws { (process, endpoint) = try GatewayServer.launch(command, options, logPath) }

    private static func launch(_ command: Command, _ options: [String], _ logPath: String) throws -> (Process, String) {
        let process = Process()
        process.executableURL = URL(filePath: Command.path)
        process.arguments = ["serve", "--listen", "127.0.0.1:0"] + options
        process.environment = ProcessInfo.processInfo.environment.merging(
            ["AURORA_HOME": command.home, "AURORA_RUNTIME": command.runtime]
        ) { $1 }
        try Data().write(to: URL(filePath: logPath))
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        process.standardError = try FileHandle(forWritingTo: URL(filePath: logPath))
        try process.run()
        // Its log says where it listens.
        while true {
            let text = try String(contentsOfFile: logPath, encoding: .utf8)
            if let port = text.firstMatch(of: /"address":"127\.0\.0\.1:(\d+)"/)?.1 { return (process, "http://127.0.0.1:\(port)") }
            try #require(process.isRunning, "the gateway did not start: \(text)")
            usleep(20_000)
        }
    }

    /// Runs `aurora fn`.
    func fn(_ words: String...) throws -> CommandResult { try command.run(["fn"] + words + ["--endpoint", endpoint]) }

    /// The token that it made for itself.
    var token: String? {
        (try? String(contentsOfFile: "\(command.home)/functions/.token", encoding: .utf8)).map { String($0.dropLast()) }
    }

    /// Sends a request without the command.
    func send(_ method: String, _ path: String, _ headers: [(String, String)] = [], _ body: [UInt8] = []) throws -> GatewayClient.Answer {
        try GatewayClient(endpoint: endpoint, token: token).send(
            method, path, headers: headers, body: body, seconds: 280)
    }

    /// Processes that work in these directories: the gateway, hosts, instances, builders; zombies are none.
    var processes: [Int32] {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "/proc")) ?? []
        return names.compactMap { Int32($0) }.filter {
            guard let words = try? Data(contentsOf: URL(filePath: "/proc/\($0)/environ")) else { return false }
            return String(decoding: words, as: UTF8.self).contains("AURORA_HOME=\(command.home)\0")
        }
    }

    /// The command line of a process.
    func words(of process: Int32) throws -> [String] {
        let bytes = try Data(contentsOf: URL(filePath: "/proc/\(process)/cmdline"))
        return String(decoding: bytes, as: UTF8.self).split(separator: "\0").map(String.init)
    }

    /// Launch images that are whole.
    var launchImages: Set<String> {
        let names = (try? FileManager.default.contentsOfDirectory(atPath: "\(command.home)/launch")) ?? []
        return Set(names.filter { !$0.hasPrefix(".") })
    }

    /// Waits for something that happens soon.
    func eventually(_ what: String, _ condition: () throws -> Bool) throws {
        for _ in 0..<6000 {
            if try condition() { return }
            usleep(50_000)
        }
        Issue.record("not within five minutes: \(what); \(log)")
        throw CocoaError(.fileReadUnknown)
    }
}
