internal import CLinux

/// Directories with all that is in them.
public enum FileTree {
    /// The most levels below a directory that is removed; those of a group are no more than two.
    static let depthMax = 8

    /// The names in a directory; empty when it does not exist.
    ///
    /// - Throws: `SystemError` with the path.
    public static func names(in path: String) throws(SystemError) -> [String] {
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

    /// Removes a directory and what it holds; symbolic links are removed, never followed.
    ///
    /// - Throws: `SystemError` naming what cannot be removed.
    public static func remove(_ path: String) throws(SystemError) { try remove(path, depth: 0) }

    private static func remove(_ path: String, depth: Int) throws(SystemError) {
        guard depth < depthMax else { throw SystemError("remove", path, errno: Errno(rawValue: ELOOP)) }
        for name in try names(in: path) {
            let entry = "\(path)/\(name)"
            let result = clinux_unlink(entry)
            if result == -Int(EISDIR) {
                try remove(entry, depth: depth + 1)
            } else if result != -Int(ENOENT) {
                try systemCall("remove", entry) { Int(result) }
            }
        }
        if rmdir(path) != 0, clinux_errno() != ENOENT { throw SystemError("remove", path, errno: Errno(rawValue: clinux_errno())) }
    }
}
