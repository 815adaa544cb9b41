import Store

/// Measures a store on a file system, against the plain file operations it stands on, in the same run.
@main struct StoreBench {
    static func main() {
        let arguments = CommandLine.arguments
        guard arguments.count >= 2 else {
            print("usage: StoreBench DIRECTORY [MIB] [CHECKPOINTS]\nMakes two files there, and removes them.")
            return
        }
        let mebibytes = arguments.count > 2 ? Int(arguments[2]) ?? 512 : 512
        let checkpoints = arguments.count > 3 ? UInt64(arguments[3]) ?? 10000 : 10000
        do { try Measurements(directory: arguments[1], mebibytes: mebibytes, checkpoints: checkpoints).run() } catch {
            print("error: \(error)")
        }
    }
}
