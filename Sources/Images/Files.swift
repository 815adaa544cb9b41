internal import CLinux
internal import FoundationEssentials
internal import Linux

/// The few file operations the stores are made of; each failure is an `ImageError` that names the path.
enum Files {
    /// Reads a whole file that may not be longer than `lengthMax` bytes.
    static func read(_ path: String, lengthMax: Int) throws(ImageError) -> [UInt8] {
        do throws(SystemError) {
            let file = try OwnedDescriptor.open(path, O_RDONLY)
            var bytes: [UInt8] = []
            var chunk = [UInt8](repeating: 0, count: 1 << 18)
            while true {
                let number = file.rawValue
                let count = try systemCall("read", path) {
                    chunk.withUnsafeMutableBytes { clinux_read(number, $0.baseAddress, $0.count) }
                }
                if count == 0 { return bytes }
                guard bytes.count + count <= lengthMax else { throw SystemError("read", path, errno: Errno(rawValue: EFBIG)) }
                bytes += chunk[..<count]
            }
        } catch { throw .system(error) }
    }

    /// Makes a file with these contents, replacing what was there.
    static func write(_ bytes: some Collection<UInt8>, to path: String, mode: UInt32 = 0o600) throws(ImageError) {
        do throws(SystemError) {
            let file = try OwnedDescriptor.open(path, O_WRONLY | O_CREAT | O_TRUNC, mode: mode)
            let number = file.rawValue
            let bytes = Array(bytes)
            var written = 0
            while written < bytes.count {
                written += try systemCall("write", path) {
                    bytes[written...].withUnsafeBytes { clinux_write(number, $0.baseAddress, $0.count) }
                }
            }
        } catch { throw .system(error) }
    }

    /// Makes a directory and those above it, for its owner alone; one that exists is fine.
    static func makeDirectory(_ path: String) throws(ImageError) {
        var partial = path.hasPrefix("/") ? "" : "."
        for part in path.split(separator: "/") {
            partial += "/\(part)"
            guard mkdir(partial, 0o700) != 0 else { continue }
            let reason = clinux_errno()
            var status = stat()
            guard stat(partial, &status) == 0, kind(status) == mode_t(S_IFDIR) else {
                throw .system(SystemError("create directory", partial, errno: Errno(rawValue: reason)))
            }
        }
    }

    private static func kind(_ status: stat) -> mode_t { status.st_mode & mode_t(S_IFMT) }

    /// The first bytes of a file, at most `count`.
    static func head(_ path: String, count: Int) throws(ImageError) -> [UInt8] {
        do throws(SystemError) {
            let file = try OwnedDescriptor.open(path, O_RDONLY)
            let number = file.rawValue
            var bytes = [UInt8](repeating: 0, count: count)
            let read = try systemCall("read", path) {
                bytes.withUnsafeMutableBytes { clinux_pread(number, $0.baseAddress, $0.count, 0) }
            }
            return Array(bytes.prefix(read))
        } catch { throw .system(error) }
    }

    /// The size in bytes and the bytes on disk of a regular file.
    static func size(_ path: String) throws(ImageError) -> (bytes: Int, allocated: Int) {
        var status = stat()
        guard stat(path, &status) == 0 else { throw .system(SystemError("inspect", path, errno: Errno(rawValue: clinux_errno()))) }
        guard kind(status) == mode_t(S_IFREG) else {
            throw .system(SystemError("use as a regular file", path, errno: .invalidArgument))
        }
        return (Int(status.st_size), Int(status.st_blocks) * 512)
    }

    /// Whether a path names anything.
    static func exists(_ path: String) -> Bool {
        var status = stat()
        return lstat(path, &status) == 0
    }

    /// The names in a directory, sorted; a directory that is not there is empty.
    static func names(in path: String) throws(ImageError) -> [String] {
        guard exists(path) else { return [] }
        guard let names = try? FileManager.default.contentsOfDirectory(atPath: path) else {
            throw .system(SystemError("list", path, errno: .accessDenied))
        }
        return names.sorted()
    }

    /// Removes a file or a whole tree, following no link, whatever the names in it are.
    static func removeTree(_ path: String) throws(ImageError) {
        guard exists(path) else { return }
        let end = path.lastIndex(of: "/")
        let parent = end.map { String(path[..<$0]) } ?? "."
        do throws(SystemError) {
            let directory = try OwnedDescriptor.open(parent.isEmpty ? "/" : parent, O_RDONLY | O_DIRECTORY)
            try RootTree.remove(Array((end.map { path[path.index(after: $0)...] } ?? path[...]).utf8), in: directory)
        } catch { throw .system(error) }
    }

    /// Writes a file's or a directory's contents to the disk itself.
    static func sync(_ path: String) throws(ImageError) {
        do throws(SystemError) {
            let file = try OwnedDescriptor.open(path, O_RDONLY)
            let number = file.rawValue
            try systemCall("write to disk", path) { clinux_fsync(number) }
        } catch { throw .system(error) }
    }

    /// Syncs a directory with everything in it.
    static func syncTree(_ path: String) throws(ImageError) {
        for name in try names(in: path) {
            var status = stat()
            guard lstat("\(path)/\(name)", &status) == 0 else { continue }
            switch kind(status) {
            case mode_t(S_IFDIR): try syncTree("\(path)/\(name)")
            case mode_t(S_IFREG): try sync("\(path)/\(name)")
            default: continue
            }
        }
        try sync(path)
    }

    /// Puts a finished directory in its place in one step; what was there before is afterwards at `source`.
    static func publish(_ source: String, as target: String) throws(ImageError) {
        do throws(SystemError) {
            do throws(SystemError) {
                try systemCall("rename", source) { clinux_renameat2(source, target, 0) }
            } catch  where error.errno == .exists || error.errno.rawValue == ENOTEMPTY {
                try systemCall("replace", target) { clinux_renameat2(source, target, CLINUX_RENAME_EXCHANGE) }
            }
        } catch { throw .system(error) }
    }
}
