import Foundation
import Testing

/// What an instruction does to a program in a guest, a row each of `Tests/Conformance`, against what Linux does on the bare processor.
///
/// `Tests/Conformance/known` names what differs, with the reason; a difference that is gone must leave that table.
@Suite(.enabled(if: Command.obstacle == nil, "guests cannot be run here"), .serialized, .timeLimit(.minutes(3)))
struct ConformanceTests {
    private static let folder = URL(filePath: #filePath).deletingLastPathComponent().appending(path: "../Conformance").standardized

    private static let places: [(place: String, options: [String])] = [("pv", []), ("strict", ["--isolation", "strict"])]

    @Test(arguments: places)
    func programsSeeWhatTheProcessorDoes(_ place: String, _ options: [String]) throws {
        let probe = try Probe()
        let aurora = try Command()
        let command = ["sh", "-c", "base64 -d >/tmp/probe && chmod 755 /tmp/probe && exec /tmp/probe"]
        let run = try aurora.run(["run", "--rm", "-i", "-m", "256M"] + options + ["--"] + command, input: probe.encoded)
        #expect(run.code == 0, "\(run.error)")
        #expect(try probe.complaints(about: run.output, from: place) == "")
    }

    /// The tables themselves: the host has the same processor, and no shim.
    @Test func theHostDoesWhatTheGoldenOutputSays() throws {
        let probe = try Probe()
        let (status, output) = try Probe.run(probe.program, [])
        #expect(status == 0)
        #expect(try probe.complaints(about: output, from: "host") == "")
    }

    /// The compiled probe, gone with its owner.
    private final class Probe {
        let program: String
        private let scratch: URL

        init() throws {
            scratch = FileManager.default.temporaryDirectory.appending(path: "aurora-probe-\(UUID().uuidString.prefix(8))")
            try FileManager.default.createDirectory(at: scratch, withIntermediateDirectories: true)
            program = scratch.appending(path: "probe").path
            let (status, output) = try Probe.run(folder.appending(path: "build").path, [program])
            try #require(status == 0, "\(output)")
        }

        deinit { try? FileManager.default.removeItem(at: scratch) }

        /// In lines, as `base64 -d` wants it.
        var encoded: String {
            get throws {
                let bytes = try Data(contentsOf: URL(filePath: program))
                return bytes.base64EncodedString(options: [.lineLength76Characters, .endLineWithLineFeed]) + "\n"
            }
        }

        /// What `compare` prints; empty where nothing differs that may not.
        func complaints(about output: String, from place: String) throws -> String {
            let file = scratch.appending(path: "output").path
            try output.write(toFile: file, atomically: true, encoding: .utf8)
            let (status, text) = try Probe.run(folder.appending(path: "compare").path, [place, file])
            return status == 0 ? "" : text
        }

        static func run(_ program: String, _ arguments: [String]) throws -> (status: Int32, output: String) {
            let process = Process()
            process.executableURL = URL(filePath: program)
            process.arguments = arguments
            let pipe = Pipe()
            process.standardOutput = pipe
            process.standardError = pipe
            try process.run()
            let bytes = pipe.fileHandleForReading.readDataToEndOfFile()
            process.waitUntilExit()
            return (process.terminationStatus, String(decoding: bytes, as: UTF8.self))
        }
    }
}
