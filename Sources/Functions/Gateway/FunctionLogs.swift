internal import CLinux
internal import Linux
internal import NIOPosix
internal import Synchronization

/// What functions printed: a file for each, of bounded length, with one predecessor.
///
/// Lines are gathered and written by a thread of their own, so that no request waits for the disk; a function that prints faster than
/// the disk takes loses its oldest lines, and the file says so.
final class FunctionLogs: Sendable {
    static let fileBytesMax = 1 << 20
    static let gatheredBytesMax = 256 << 10

    private let catalogue: Catalogue
    private let pool: NIOThreadPool
    private struct State {
        var gathered: [String: [UInt8]] = [:]
        var isWriting = false
    }
    private let state = Mutex(State())
    /// Held while files are written, so that who finds nothing gathered knows that all of it is in the files.
    private let writing = Mutex(())

    init(catalogue: Catalogue, pool: NIOThreadPool) {
        self.catalogue = catalogue
        self.pool = pool
    }

    /// Adds to a function's log, and returns when it is in the file.
    func write(_ bytes: [UInt8], _ name: String) async {
        append(bytes, name)
        await FileWork(pool: pool).run { self.write() }
    }

    /// Adds to a function's log.
    func append(_ bytes: [UInt8], _ name: String) {
        let mustWrite = state.withLock { state in
            var gathered = state.gathered[name] ?? []
            if gathered.count + bytes.count > FunctionLogs.gatheredBytesMax {
                gathered = Array("[lines are lost: too many at once]\n".utf8)
            }
            gathered += bytes.suffix(FunctionLogs.gatheredBytesMax)
            state.gathered[name] = gathered
            defer { state.isWriting = true }
            return !state.isWriting
        }
        if mustWrite { pool.submit { [self] _ in write() } }
    }

    /// The end of a function's log.
    func tail(_ name: String, bytesMax: Int) -> [UInt8] {
        write()
        var bytes: [UInt8] = []
        for file in ["log.1", "log"] {
            bytes += (try? DurableFile.read("\(catalogue.directory(name))/\(file)", bytesMax: 4 * FunctionLogs.fileBytesMax)) ?? []
        }
        return Array(bytes.suffix(bytesMax))
    }

    private func write() {
        writing.withLock { _ in
            while true {
                let batch = state.withLock { state in
                    defer { state.gathered = [:] }
                    if state.gathered.isEmpty { state.isWriting = false }
                    return state.gathered
                }
                if batch.isEmpty { return }
                for (name, bytes) in batch where catalogue[name] != nil { write(bytes, to: "\(catalogue.directory(name))/log") }
            }
        }
    }

    private func write(_ bytes: [UInt8], to path: String) {
        // A log that cannot be written must not stop the function: the metrics and the gateway's own log still tell of its requests.
        guard let file = try? OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_APPEND) else { return }
        try? DurableFile.writeAll(bytes, to: file.rawValue, path)
        var status = stat()
        guard clinux_fstat(file.rawValue, &status) == 0 else { return }
        if status.st_size > FunctionLogs.fileBytesMax { _ = clinux_rename(path, "\(path).1") }
    }
}
