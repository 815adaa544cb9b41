internal import CLinux

/// Directories that nobody but their owner may look into: who could, could also put something else in their place.
public enum PrivateDirectory {
    /// Why a directory is not taken for one of ours.
    public enum Fault: Error, Sendable, Hashable, CustomStringConvertible {
        /// It cannot be looked at.
        case system(SystemError)
        /// It is a symbolic link, or no directory.
        case noDirectory(String)
        /// It belongs to another user, with this number.
        case foreign(String, owner: UInt32)
        /// Others may use it, or put things in it; the permission bits.
        case open(String, mode: UInt32)

        /// What is wrong with it.
        public var description: String {
            switch self {
            case .system(let error): "\(error)"
            case .noDirectory(let path): "\(path) is a symbolic link or no directory"
            case .foreign(let path, let owner): "\(path) belongs to another user (\(owner))"
            case .open(let path, let mode): "\(path) is open to other users (mode \(String(mode, radix: 8)))"
            }
        }
    }

    /// How much others may do with a directory before it is refused.
    public enum Others: Sendable {
        /// Nothing.
        case mayNothing
        /// Look at it: what is in it is closed itself, or harmless.
        case mayRead

        var forbiddenBits: UInt32 { self == .mayRead ? 0o022 : 0o077 }
    }

    /// The permission bits of everybody but the owner.
    private static let foreignBits: UInt32 = 0o077

    /// Makes a directory and those above it, for its owner alone; one that is there is left as it is.
    ///
    /// - Throws: `SystemError` naming the directory.
    public static func create(_ path: String) throws(SystemError) {
        var partial = path.hasPrefix("/") ? "" : "."
        let parts = path.split(separator: "/")
        for (index, part) in parts.enumerated() {
            partial += "/\(part)"
            let result = clinux_mkdir(partial, 0o700)
            guard result < 0, result != -Int(EEXIST) else { continue }
            // A directory above may be of a read-only file system or not ours to list; only the last one must be there.
            if index < parts.count - 1, clinux_access(partial, F_OK) == 0 { continue }
            throw SystemError("create directory", partial, errno: Errno(rawValue: Int32(truncatingIfNeeded: -result)))
        }
    }

    /// Checks a directory if it is there: not a link, of this user, closed to all others.
    ///
    /// - Throws: `Fault`.
    public static func check(_ path: String, _ others: Others = .mayNothing) throws(Fault) {
        do throws(Fault) {
            try examine(path, others)
        } catch {
            if case .system(let error) = error, error.errno == .noEntry { return }
            throw error
        }
    }

    /// Makes a directory unless it is there, and checks it.
    ///
    /// - Throws: `Fault`.
    public static func ensure(_ path: String, _ others: Others = .mayNothing) throws(Fault) {
        do throws(SystemError) {
            try create(path)
        } catch {
            // What is there already, and no directory, is looked at below.
            guard error.errno == .exists else { throw .system(error) }
        }
        try examine(path, others)
    }

    /// Takes from others what they may do with a directory of ours; one that is not there, a link or another's is left alone.
    public static func tighten(_ path: String) {
        guard let directory = try? OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW) else { return }
        var status = stat()
        guard clinux_fstat(directory.rawValue, &status) == 0, status.st_uid == geteuid() else { return }
        let mode = status.st_mode & 0o7777
        if mode & foreignBits != 0 { _ = clinux_fchmod(directory.rawValue, mode & ~foreignBits) }
    }

    private static func examine(_ path: String, _ others: Others) throws(Fault) {
        let directory: OwnedDescriptor
        do throws(SystemError) {
            directory = try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW)
        } catch {
            throw [ELOOP, ENOTDIR].contains(error.errno.rawValue) ? .noDirectory(path) : .system(error)
        }
        var status = stat()
        let result = clinux_fstat(directory.rawValue, &status)
        guard result == 0 else { throw .system(SystemError("inspect", path, errno: Errno(rawValue: Int32(truncatingIfNeeded: -result)))) }
        guard status.st_uid == geteuid() else { throw .foreign(path, owner: status.st_uid) }
        guard status.st_mode & others.forbiddenBits == 0 else { throw .open(path, mode: status.st_mode & 0o7777) }
    }
}
