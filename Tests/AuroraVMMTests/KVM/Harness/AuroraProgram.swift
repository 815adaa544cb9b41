import Foundation

/// The `aurora` program that was built with these tests.
enum AuroraProgram {
    static let path: String? = {
        let candidates: [String?] = [
            ProcessInfo.processInfo.environment["AURORA_COMMAND"],
            URL(filePath: CommandLine.arguments[0]).deletingLastPathComponent().appending(path: "aurora").path,
        ]
        let found = candidates.compactMap { $0 }.first { FileManager.default.isExecutableFile(atPath: $0) }
        if found == nil { FileHandle.standardError.write(Data("SKIPPED: tests with the aurora program: set AURORA_COMMAND\n".utf8)) }
        return found
    }()

    struct Run {
        let output: String
        let status: Int32
        var lines: [String] { output.split(whereSeparator: \.isNewline).map(String.init) }
        var counters: GuestCounters? { lines.reversed().lazy.compactMap { GuestCounters($0) }.first }
        var complaints: [String] { lines.filter { $0.hasPrefix("WRONG") || $0.contains("Kernel panic") || $0.contains("BUG:") } }
    }

    /// Runs the program to its end; `meanwhile` runs beside it.
    static func run(_ arguments: [String], meanwhile: () throws -> Void = {}) throws -> Run {
        let process = Process()
        process.executableURL = URL(filePath: path ?? "")
        process.arguments = arguments
        let output = FileManager.default.temporaryDirectory.appending(path: "aurora-run-\(UUID().uuidString)").path
        _ = FileManager.default.createFile(atPath: output, contents: nil)
        defer { try? FileManager.default.removeItem(atPath: output) }
        let handle = FileHandle(forWritingAtPath: output)
        process.standardOutput = handle
        process.standardError = handle
        try process.run()
        defer { process.waitUntilExit() }
        try meanwhile()
        process.waitUntilExit()
        let text = String(decoding: FileManager.default.contents(atPath: output) ?? Data(), as: UTF8.self)
        return Run(output: text, status: process.terminationStatus)
    }
}
