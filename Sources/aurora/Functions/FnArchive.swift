import CLinux
import Groups
import Linux

/// The archive of a function's code.
enum FnArchive {
    static let bytesMax = 50 << 20

    /// The bytes of a ZIP archive, or of one made of a directory.
    ///
    /// An archive is sent as it is: who serves functions says whether it is one. A directory is packed by `bsdtar`, of the package
    /// libarchive-tools, which reads nothing but the user's own files there, and is told what it writes.
    static func read(_ path: String) throws -> [UInt8] {
        var status = stat()
        guard stat(path, &status) == 0 else { throw GroupError(.notFound, "There is no \(path)") }
        guard Int32(bitPattern: status.st_mode) & Int32(S_IFMT) == Int32(S_IFDIR) else { return try readAll(path, what: path) }
        return try pack(path)
    }

    private static func pack(_ path: String) throws -> [UInt8] {
        let number = try systemCall("create", "a file in memory") { clinux_memfd_create("code.zip", 1) }
        let file = OwnedDescriptor(adopting: Int32(number))
        let process: Int32
        // By name: what bsdtar writes to standard output, "-", it fills up with zeros, and an archive that ends with those is none.
        do throws(SystemError) {
            process = try ProgramStart("bsdtar", ["bsdtar", "--format", "zip", "-cf", "/proc/self/fd/1", "-C", path, "."]).start([
                (0, 0), (file.rawValue, 1), (2, 2),
            ])
        } catch {
            throw GroupError(
                .host, "Cannot run bsdtar to pack \(path)", remedy: "Install the package libarchive-tools, or give a ZIP archive.")
        }
        var code: Int32 = 0
        while waitpid(process, &code, 0) < 0, clinux_errno() == EINTR {}
        guard code == 0 else { throw GroupError(.host, "bsdtar could not pack \(path)") }
        return try readAll("/proc/self/fd/\(file.rawValue)", what: "The archive of \(path)")
    }

    /// All bytes of a file, or of standard input for descriptor 0.
    static func readAll(_ path: String, what: String, bytesMax: Int = bytesMax) throws -> [UInt8] {
        let file = try OwnedDescriptor.open(path, O_RDONLY)
        let number = file.rawValue
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 1 << 16)
        while true {
            let count = try systemCall("read", path) { clinux_read(number, &chunk, chunk.count) }
            if count == 0 { return bytes }
            bytes += chunk[..<count]
            guard bytes.count <= bytesMax else { throw GroupError(.invalidValue, "\(what) has more than \(MemorySize.format(bytesMax))") }
        }
    }
}
