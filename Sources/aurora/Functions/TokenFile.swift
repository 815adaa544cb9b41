import CLinux
import Functions
import Groups
import Linux

/// A file that holds a gateway's token, for its owner alone.
enum TokenFile {
    static let bytesMin = 16
    private static let bytesMax = 4096
    private static let randomBytes = 24

    /// Where a gateway of a data directory keeps the token that it made itself; no function has this name.
    static func own(_ data: DataDirectory) -> String { "\(data.path)/functions/.token" }

    /// The token: the file's first line.
    ///
    /// - Throws: `GroupError` for a file that others can read, as `ssh` has it for keys.
    static func read(_ path: String) throws -> String {
        let file = try open(path)
        var facts = stat()
        try systemCall("look at", path) { clinux_fstat(file.rawValue, &facts) }
        guard facts.st_mode & 0o170000 != 0o100000 || facts.st_mode & 0o077 == 0, facts.st_uid == getuid() || facts.st_uid == 0 else {
            throw GroupError(
                .invalidValue, "The token file \(path) can be read by others, or is another user's",
                remedy: "Make it yours alone: chmod 600 \(path)")
        }
        var bytes = [UInt8](repeating: 0, count: bytesMax)
        let count = try systemCall("read", path) { clinux_read(file.rawValue, &bytes, bytes.count) }
        let token = String(String(decoding: bytes.prefix(count), as: UTF8.self).prefix { !$0.isNewline })
        guard token.utf8.count >= bytesMin, token.utf8.allSatisfy({ (33...126).contains($0) }) else {
            throw GroupError(
                .invalidValue, "The token in \(path) is too short, or has characters that no header may have",
                remedy: "Make one with: (umask 077; head -c 24 /dev/urandom | base64 > \(path))")
        }
        return token
    }

    private static func open(_ path: String) throws -> OwnedDescriptor {
        do throws(SystemError) { return try OwnedDescriptor.open(path, O_RDONLY) } catch {
            throw GroupError(.host, "Cannot read the token file \(path): \(error.errno)")
        }
    }

    /// The gateway's own token, made at its first start.
    static func ensure(_ data: DataDirectory) throws -> String {
        let path = own(data)
        if clinux_access(path, F_OK) == 0 { return try read(path) }
        try DataDirectory.create("\(data.path)/functions")
        let digits = Array("0123456789abcdef".utf8)
        var generator = SystemRandomNumberGenerator()
        let token = (0..<2 * randomBytes).map { _ in digits[Int(generator.next() & 15)] } + [10]
        let aside = "\(path).\(getpid())"
        do {
            let file = try OwnedDescriptor.open(aside, O_WRONLY | O_CREAT | O_EXCL, mode: 0o600)
            defer { _ = clinux_unlink(aside) }
            let number = file.rawValue
            let written = try systemCall("write", aside) { clinux_write(number, token, token.count) }
            guard written == token.count else { throw SystemError("write", aside, errno: Errno(rawValue: ENOSPC)) }
            // Of two gateways that start at once, the second takes the first one's.
            let result = clinux_linkat(AT_FDCWD, aside, AT_FDCWD, path)
            if result != -Int(EEXIST) { try systemCall("create", path) { Int(result) } }
        }
        return try read(path)
    }
}
