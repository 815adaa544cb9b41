import Glibc
import Store

/// Measures a store on a file system, against the plain file operations it stands on, in the same run.
@main struct StoreBench {
    static func main() {
        let words = CommandLine.arguments.dropFirst().filter { !$0.hasPrefix("--") }
        let flags = CommandLine.arguments.dropFirst().filter { $0.hasPrefix("--") }
        guard let directory = words.first, flags.allSatisfy({ ["--json", "--ingest"].contains($0) }) else {
            print("usage: StoreBench DIRECTORY [MIB] [CHECKPOINTS] [--json] [--ingest]")
            print("Makes files there, and removes them. --ingest: nothing but that.")
            return
        }
        let mebibytes = words.count > 1 ? Int(words[words.startIndex + 1]) ?? 512 : 512
        let checkpoints = words.count > 2 ? UInt64(words[words.startIndex + 2]) ?? 10000 : 10000
        do {
            try Measurements(directory: directory, mebibytes: mebibytes, checkpoints: checkpoints, json: flags.contains("--json"))
                .run(ingestOnly: flags.contains("--ingest"))
        } catch {
            let message = "StoreBench: \(error)\n"
            _ = message.withCString { write(STDERR_FILENO, $0, strlen($0)) }
            exit(1)
        }
    }
}
