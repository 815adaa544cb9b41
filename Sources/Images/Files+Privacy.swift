internal import CLinux
internal import Linux

/// What is made here is for its owner alone: an image may hold what a group has kept secret.
extension Files {
    private static let others = mode_t(0o077)

    /// Takes away what others may do with files and directories, whatever umask and older versions have given them.
    ///
    /// Only what this user owns, and no link, is changed; what cannot be is left as it is.
    static func makePrivate(_ paths: [String]) {
        for path in paths {
            guard let file = try? OwnedDescriptor.open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK) else { continue }
            var status = stat()
            guard fstat(file.rawValue, &status) == 0, status.st_uid == geteuid(), status.st_mode & others != 0 else { continue }
            _ = clinux_fchmod(file.rawValue, status.st_mode & 0o7777 & ~others)
        }
    }

    /// The same for a directory with all that is in it.
    static func makeTreePrivate(_ path: String) throws(ImageError) {
        makePrivate([path])
        for name in try names(in: path) {
            var status = stat()
            guard lstat("\(path)/\(name)", &status) == 0 else { continue }
            switch status.st_mode & mode_t(S_IFMT) {
            case mode_t(S_IFDIR): try makeTreePrivate("\(path)/\(name)")
            case mode_t(S_IFREG): makePrivate(["\(path)/\(name)"])
            default: continue
            }
        }
    }
}
