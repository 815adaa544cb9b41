internal import CLinux
internal import Synchronization

/// Files that are whole or not there, whatever happens to their writer, and that stay once written.
public enum DurableFile {
    /// How the names of files written aside end.
    private static let asideSuffix = ".new"
    /// Tells files that this process writes aside at the same time apart.
    private static let count = Atomic<UInt64>(0)

    /// All bytes of a file; nil when there is none.
    ///
    /// - Throws: `SystemError`; `EFBIG` for a file longer than allowed.
    public static func read(_ path: String, bytesMax: Int) throws(SystemError) -> [UInt8]? {
        let result = clinux_open(path, O_RDONLY | O_CLOEXEC, 0)
        if result == -Int(ENOENT) { return nil }
        let file = OwnedDescriptor(adopting: Int32(try systemCall("open", path) { Int(result) }))
        let number = file.rawValue
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 16384)
        while true {
            let count = try DescriptorIO.read(number, into: &chunk, what: path)
            if count == 0 { return bytes }
            guard bytes.count + count <= bytesMax else { throw SystemError("read", path, errno: Errno(rawValue: EFBIG)) }
            bytes += chunk[..<count]
        }
    }

    /// Replaces a file: written aside under a name that nobody else uses, made durable, renamed over.
    ///
    /// - Parameter flushesDirectory: whether the new contents are to be found after a power cut; else the old ones may be.
    /// - Throws: `SystemError` naming what failed; the file is then as it was.
    public static func replace(_ path: String, with bytes: [UInt8], flushesDirectory: Bool = true) throws(SystemError) {
        let aside = "\(path).\(getpid())-\(count.add(1, ordering: .relaxed).newValue)\(asideSuffix)"
        do {
            let file = try OwnedDescriptor.open(aside, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, mode: 0o600)
            let number = file.rawValue
            try DescriptorIO.writeAll(bytes, to: number, what: aside)
            try systemCall("make durable", aside) { clinux_fdatasync(number) }
            try systemCall("rename", aside) { clinux_rename(aside, path) }
        } catch {
            _ = clinux_unlink(aside)
            throw error
        }
        if flushesDirectory { try syncDirectory(parent(of: path)) }
    }

    /// Removes what writers of a file left aside who were killed; nobody writes it now.
    public static func removeLeftovers(of path: String) {
        let folder = parent(of: path)
        let start = "\(path.dropFirst(path.hasPrefix("\(folder)/") ? folder.utf8.count + 1 : 0))."
        for name in (try? FileTree.names(in: folder)) ?? [] where name.hasPrefix(start) && name.hasSuffix(asideSuffix) {
            _ = clinux_unlink("\(folder)/\(name)")
        }
    }

    private static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }

    /// Writes all bytes at the descriptor's place.
    ///
    /// - Throws: `SystemError` with the path.
    public static func writeAll(_ bytes: [UInt8], to descriptor: Int32, _ path: String) throws(SystemError) {
        try DescriptorIO.writeAll(bytes, to: descriptor, what: path)
    }

    /// Makes what was created, renamed or removed in a directory durable.
    ///
    /// - Throws: `SystemError` with the path.
    public static func syncDirectory(_ path: String) throws(SystemError) {
        let directory = try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY)
        let number = directory.rawValue
        try systemCall("make durable", path) { clinux_fsync(number) }
    }

    /// Makes a directory, for its owner alone, and those above it.
    ///
    /// - Throws: `SystemError` naming the directory.
    public static func createDirectory(_ path: String) throws(SystemError) { try PrivateDirectory.create(path) }

    /// The names in a directory; empty when it does not exist.
    ///
    /// - Throws: `SystemError` with the path.
    public static func names(in path: String) throws(SystemError) -> [String] { try FileTree.names(in: path) }

    /// Removes a directory of files; what is in directories of its own stays, and with it the directory.
    ///
    /// - Throws: `SystemError` with the path.
    public static func removeDirectory(_ path: String) throws(SystemError) {
        for name in try names(in: path) { _ = clinux_unlink("\(path)/\(name)") }
        if rmdir(path) != 0, clinux_errno() != ENOENT { throw SystemError("remove", path, errno: Errno(rawValue: clinux_errno())) }
    }
}
