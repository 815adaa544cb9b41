import Foundation
import Testing

/// What a run of the `aurora` command left behind.
struct CommandResult {
    let code: Int32
    let output: String
    let error: String
}

/// The built `aurora` command with directories of its own, in which kernel and images are those of the machine.
final class Command: Sendable {
    let home: String
    let runtime: String

    /// The command: named by `scripts/run-tests`, else beside the test bundle.
    static let path =
        ProcessInfo.processInfo.environment["AURORA_COMMAND"]
        ?? URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent().appending(path: "aurora").path

    /// Where kernel and images were prepared.
    private static let prepared = ProcessInfo.processInfo.environment["AURORA_HOME"] ?? "/var/lib/aurora"

    /// Why guests cannot be run here; nil when they can.
    static let obstacle: String? = {
        let files = FileManager.default
        let reason: String? =
            !files.isExecutableFile(atPath: path)
            ? "there is no command at \(path)"
            : !files.isWritableFile(atPath: "/dev/kvm")
                ? "/dev/kvm is missing or not permitted"
                : !files.fileExists(atPath: "\(prepared)/kernel/current/vmlinux")
                    ? "no kernel is prepared in \(prepared)"
                    : !files.fileExists(atPath: "\(prepared)/images/base/root.ext4") ? "no base image is prepared in \(prepared)" : nil
        if let reason { print("SKIPPED: tests that run guests: \(reason); run: aurora image prepare") }
        return reason
    }()

    init() throws {
        let base = FileManager.default.temporaryDirectory.appending(path: "aurora-command-\(UUID().uuidString.prefix(8))").path
        home = "\(base)/home"
        runtime = "\(base)/run"
        try FileManager.default.createDirectory(atPath: home, withIntermediateDirectories: true)
        for name in ["kernel", "images"] where FileManager.default.fileExists(atPath: "\(Command.prepared)/\(name)") {
            try FileManager.default.createSymbolicLink(
                atPath: "\(home)/\(name)",
                withDestinationPath: URL(filePath: "\(Command.prepared)/\(name)").resolvingSymlinksInPath().path)
        }
    }

    deinit {
        let names = (try? run("ps", "-aq"))?.output.split(separator: "\n").map(String.init) ?? []
        if !names.isEmpty { _ = try? run(["rm", "--force"] + names) }
        try? FileManager.default.removeItem(atPath: URL(filePath: home).deletingLastPathComponent().path)
    }

    /// Starts the command with pipes.
    ///
    /// - Parameters:
    ///   - launcher: a program and its first arguments, which runs the command that follows them; empty: none.
    ///   - program: what is run in place of the command, in its surroundings.
    func start(
        _ arguments: [String], launcher: [String] = [], program: String = Command.path
    ) throws -> (process: Process, input: Pipe, output: Pipe, error: Pipe) {
        let process = Process()
        let words = launcher + [program] + arguments
        process.executableURL = URL(filePath: words[0])
        process.arguments = Array(words[1...])
        var environment = ProcessInfo.processInfo.environment
        environment["AURORA_HOME"] = home
        environment["AURORA_RUNTIME"] = runtime
        process.environment = environment
        let pipes = (Pipe(), Pipe(), Pipe())
        process.standardInput = pipes.0
        process.standardOutput = pipes.1
        process.standardError = pipes.2
        try process.run()
        return (process, pipes.0, pipes.1, pipes.2)
    }

    /// Runs the command to its end.
    @discardableResult
    func run(
        _ arguments: [String], launcher: [String] = [], program: String = Command.path, input: String = ""
    ) throws -> CommandResult {
        let (process, stdin, stdout, stderr) = try start(arguments, launcher: launcher, program: program)
        try stdin.fileHandleForWriting.write(contentsOf: Data(input.utf8))
        try stdin.fileHandleForWriting.close()
        // Standard error is short here; were it longer than a pipe, the time limit of the suite would say so.
        let output = stdout.fileHandleForReading.readDataToEndOfFile()
        let error = stderr.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return CommandResult(
            code: process.terminationStatus, output: String(decoding: output, as: UTF8.self), error: String(decoding: error, as: UTF8.self))
    }

    /// Runs the command to its end.
    @discardableResult
    func run(_ arguments: String...) throws -> CommandResult { try run(arguments) }

    /// The state of a group, as `inspect` tells it.
    func state(_ name: String) throws -> (state: String, process: Int32?, warnings: [String]) {
        struct Entry: Decodable {
            struct Status: Decodable {
                let state: String
                let processID: Int32?
                let warnings: [Warning]
            }
            struct Warning: Decodable { let message: String }
            let status: Status
        }
        let entries = try JSONDecoder().decode([Entry].self, from: Data(try run("inspect", name).output.utf8))
        let status = try #require(entries.first).status
        return (status.state, status.processID, status.warnings.map(\.message))
    }
}
