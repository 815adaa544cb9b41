internal import CLinux
internal import Linux

/// Files that are whole or not there, whatever happens to their writer, and that stay once written.
enum DurableFile {
    /// All bytes of a file; nil when there is none.
    ///
    /// - Throws: `SystemError`; `EFBIG` for a file longer than allowed.
    static func read(_ path: String, bytesMax: Int) throws(SystemError) -> [UInt8]? {
        let result = clinux_open(path, O_RDONLY | O_CLOEXEC, 0)
        if result == -Int(ENOENT) { return nil }
        let file = OwnedDescriptor(adopting: Int32(try systemCall("open", path) { Int(result) }))
        let number = file.rawValue
        var bytes: [UInt8] = []
        var chunk = [UInt8](repeating: 0, count: 65536)
        while true {
            let count = try systemCall("read", path) { clinux_read(number, &chunk, chunk.count) }
            if count == 0 { return bytes }
            guard bytes.count + count <= bytesMax else { throw SystemError("read", path, errno: Errno(rawValue: EFBIG)) }
            bytes += chunk[..<count]
        }
    }

    /// Replaces a file: written aside, made durable, renamed over, and the directory made durable.
    static func replace(_ path: String, with bytes: [UInt8]) throws(SystemError) {
        let aside = "\(path).new"
        let file = try OwnedDescriptor.open(aside, O_WRONLY | O_CREAT | O_TRUNC, mode: 0o600)
        let number = file.rawValue
        do {
            try writeAll(bytes, to: number, aside)
            try systemCall("make durable", aside) { clinux_fdatasync(number) }
            try systemCall("rename", aside) { clinux_rename(aside, path) }
        } catch {
            _ = clinux_unlink(aside)
            throw error
        }
        if let slash = path.lastIndex(of: "/") { try syncDirectory(String(path[..<slash])) }
    }

    /// Writes all bytes at the descriptor's place.
    static func writeAll(_ bytes: [UInt8], to descriptor: Int32, _ path: String) throws(SystemError) {
        var start = 0
        while start < bytes.count {
            start += try systemCall("write", path) {
                bytes.withUnsafeBytes { clinux_write(descriptor, $0.baseAddress.map { $0 + start }, $0.count - start) }
            }
        }
    }

    /// Makes what was created, renamed or removed in a directory durable.
    static func syncDirectory(_ path: String) throws(SystemError) {
        let directory = try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY)
        let number = directory.rawValue
        try systemCall("make durable", path) { clinux_fsync(number) }
    }

    /// Makes a directory, for its owner alone, and those above it.
    static func createDirectory(_ path: String) throws(SystemError) {
        if clinux_access(path, F_OK) == 0 { return }
        if let slash = path.lastIndex(of: "/"), slash != path.startIndex { try createDirectory(String(path[..<slash])) }
        let result = clinux_mkdir(path, 0o700)
        if result != -Int(EEXIST) { try systemCall("create directory", path) { Int(result) } }
    }

    /// The names in a directory; empty when it does not exist.
    static func names(in path: String) throws(SystemError) -> [String] {
        guard let directory = opendir(path) else {
            let number = clinux_errno()
            if number == ENOENT { return [] }
            throw SystemError("list", path, errno: Errno(rawValue: number))
        }
        defer { closedir(directory) }
        var names: [String] = []
        while let entry = readdir(directory) {
            let name = withUnsafeBytes(of: entry.pointee.d_name) { String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self) }
            if name != ".", name != ".." { names.append(name) }
        }
        return names
    }

    /// Removes a directory of files; what is in directories of its own stays, and with it the directory.
    static func removeDirectory(_ path: String) throws(SystemError) {
        for name in try names(in: path) { _ = clinux_unlink("\(path)/\(name)") }
        if rmdir(path) != 0, clinux_errno() != ENOENT { throw SystemError("remove", path, errno: Errno(rawValue: clinux_errno())) }
    }
}
