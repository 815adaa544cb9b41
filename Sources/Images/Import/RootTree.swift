internal import CLinux
internal import Linux

/// A directory that becomes a root file system: every operation stays in it, whatever links are there.
///
/// Paths are lists of names. Those of directories are resolved by the kernel as a chroot would (`RESOLVE_IN_ROOT`); the last name of a
/// file never follows a link.
final class RootTree {
    typealias Name = [UInt8]

    private let root: OwnedDescriptor
    private let rootPath: String

    /// Opens an existing directory.
    init(_ path: String) throws(ImageError) {
        do throws(SystemError) {
            root = try OwnedDescriptor.open(path, O_RDONLY | O_DIRECTORY)
            rootPath = try Self.realPath(root, path)
        } catch { throw .system(error) }
    }

    /// Opens a directory; nil when there is none, or something else.
    func directory(_ path: [Name]) throws(SystemError) -> OwnedDescriptor? {
        do throws(SystemError) { return try open(path[...]) } catch {
            guard [ENOENT, ENOTDIR, ELOOP].contains(error.errno.rawValue) else { throw error }
            return nil
        }
    }

    /// Opens a directory, and makes it and those above it when they are not there.
    ///
    /// Links are followed as in a chroot; where one leads to what is not there, that is made.
    func makeDirectories(_ path: [Name]) throws(SystemError) -> OwnedDescriptor {
        do throws(SystemError) { return try open(path[...]) } catch { guard error.errno == .noEntry else { throw error } }
        var place: [Name] = []
        var rest = Array(path.reversed())
        var links = 0
        while let name = rest.popLast() {
            if name == Self.here { continue }
            if name == Self.above {
                _ = place.popLast()
                continue
            }
            let directory = try open(place[...])
            guard let mode = try Self.mode(name, in: directory) else {
                try Self.makeDirectory(name, in: directory)
                place.append(name)
                continue
            }
            guard mode & UInt32(S_IFMT) == UInt32(S_IFLNK) else {
                place.append(name)
                continue
            }
            links += 1
            guard links <= ImportLimits.linksMax else {
                throw SystemError("follow the links of", shown(path), errno: Errno(rawValue: ELOOP))
            }
            let target = try Self.target(name, in: directory)
            if target.first == UInt8(ascii: "/") { place = [] }
            rest += target.split(separator: UInt8(ascii: "/")).map(Array.init).reversed()
        }
        return try open(place[...])
    }

    private static let here = Array(".".utf8)
    private static let above = Array("..".utf8)

    private func shown(_ path: [Name]) -> String { Self.shown(Array(path.joined(separator: [UInt8(ascii: "/")]))) }

    /// Makes a directory that all may enter, whatever the mask of this process is.
    private static func makeDirectory(_ name: Name, in directory: borrowing OwnedDescriptor) throws(SystemError) {
        let number = directory.rawValue
        try call("create directory", name) { clinux_mkdirat(number, $0, 0o755) }
        try call("set the permissions of", name) { clinux_fchmodat(number, $0, 0o755) }
    }

    /// What a symbolic link says.
    private static func target(_ name: Name, in directory: borrowing OwnedDescriptor) throws(SystemError) -> Name {
        let number = directory.rawValue
        var buffer = [CChar](repeating: 0, count: ImportLimits.linkBytesMax + 1)
        let count = try call("read the link", name) {
            let count = readlinkat(number, $0, &buffer, buffer.count)
            return count < 0 ? -Int(clinux_errno()) : count
        }
        return buffer.prefix(count).map { UInt8(bitPattern: $0) }
    }

    private func open(_ path: ArraySlice<Name>) throws(SystemError) -> OwnedDescriptor {
        let number = root.rawValue
        let joined = path.isEmpty ? Array(".".utf8) : Array(path.joined(separator: [UInt8(ascii: "/")]))
        let directory = OwnedDescriptor(
            adopting: Int32(
                try Self.call("open directory", joined) { clinux_open_in_root(number, $0, O_RDONLY | O_DIRECTORY) }))
        try checkDepth(directory, joined)
        return directory
    }

    /// Links make a short path lead far down: what is too deep to be removed again is not entered.
    private func checkDepth(_ directory: borrowing OwnedDescriptor, _ path: Name) throws(SystemError) {
        let real = try Self.realPath(directory, Self.shown(path)).utf8.dropFirst(rootPath.utf8.count)
        guard real.count <= ImportLimits.pathBytesMax, real.count(where: { $0 == UInt8(ascii: "/") }) <= ImportLimits.depthMax else {
            throw SystemError("go as deep as", Self.shown(path), errno: Errno(rawValue: ENAMETOOLONG))
        }
    }

    /// Where a descriptor is, as the kernel knows it.
    private static func realPath(_ directory: borrowing OwnedDescriptor, _ what: String) throws(SystemError) -> String {
        var buffer = [CChar](repeating: 0, count: 16 << 10)
        let link = "/proc/self/fd/\(directory.rawValue)"
        let count = try systemCall("find", what) { clinux_readlink(link, &buffer, buffer.count) }
        guard count < buffer.count else { throw SystemError("find", what, errno: Errno(rawValue: ENAMETOOLONG)) }
        // As Latin-1, so that bytes are counted whatever they are.
        return String(String.UnicodeScalarView(buffer.prefix(count).map { Unicode.Scalar(UInt8(bitPattern: $0) & 0x7f) }))
    }

    // MARK: - What is in a directory

    /// What is at a name: file type and permissions; nil for nothing.
    static func mode(_ name: Name, in directory: borrowing OwnedDescriptor) throws(SystemError) -> UInt32? {
        let number = directory.rawValue
        var status = stat()
        do throws(SystemError) { try call("inspect", name) { clinux_lstatat(number, $0, &status) } } catch {
            guard error.errno == .noEntry else { throw error }
            return nil
        }
        return status.st_mode
    }

    /// Whether two names are of one file.
    static func isSame(
        _ one: Name, _ inOne: borrowing OwnedDescriptor, _ other: Name, _ inOther: borrowing OwnedDescriptor
    ) throws(SystemError) -> Bool {
        guard try mode(other, in: inOther) != nil else { return false }
        var (first, second) = (stat(), stat())
        let (numberOne, numberOther) = (inOne.rawValue, inOther.rawValue)
        try call("inspect", one) { clinux_lstatat(numberOne, $0, &first) }
        try call("inspect", other) { clinux_lstatat(numberOther, $0, &second) }
        return first.st_ino == second.st_ino && first.st_dev == second.st_dev
    }

    static func isDirectory(_ mode: UInt32) -> Bool { mode & UInt32(S_IFMT) == UInt32(S_IFDIR) }

    /// Removes whatever is at a name; nothing is fine.
    static func remove(_ name: Name, in directory: borrowing OwnedDescriptor) throws(SystemError) {
        guard let mode = try mode(name, in: directory) else { return }
        let number = directory.rawValue
        if isDirectory(mode) {
            // It may be one that its owner cannot list.
            _ = withPath(name) { clinux_fchmodat(number, $0, 0o700) }
            try empty(try open(name, in: directory))
        }
        try call("remove", name) { clinux_unlinkat(number, $0, isDirectory(mode) ? AT_REMOVEDIR : 0) }
    }

    /// Opens a directory by its name, no link.
    static func open(_ name: Name, in directory: borrowing OwnedDescriptor) throws(SystemError) -> OwnedDescriptor {
        let number = directory.rawValue
        return OwnedDescriptor(
            adopting: Int32(try call("open directory", name) { clinux_openat(number, $0, O_RDONLY | O_DIRECTORY, 0) }))
    }

    /// Removes all that is in a directory.
    static func empty(_ directory: borrowing OwnedDescriptor) throws(SystemError) {
        for name in try names(directory) { try remove(name, in: directory) }
    }

    /// The names in a directory, in no order.
    static func names(_ directory: borrowing OwnedDescriptor) throws(SystemError) -> [Name] {
        // The stream takes the descriptor over, and reads from where it stands.
        let again = try open(Array(".".utf8), in: directory)
        guard let stream = fdopendir(again.release()) else {
            throw SystemError("list", "a directory", errno: Errno(rawValue: clinux_errno()))
        }
        defer { closedir(stream) }
        var names: [Name] = []
        while let entry = readdir(stream) {
            let name = withUnsafeBytes(of: &entry.pointee.d_name) { Array($0.prefix { $0 != 0 }) }
            if name != Array(".".utf8), name != Array("..".utf8) { names.append(name) }
        }
        return names
    }

    // MARK: - Bytes as C strings

    static func shown(_ name: Name) -> String { quoted(name) }

    /// Calls with a name that ends with zero; a zero in it would cut it short, so callers refuse those.
    static func withPath<Result>(_ name: Name, _ body: (UnsafePointer<CChar>) -> Result) -> Result {
        var text = name.map { CChar(bitPattern: $0) } + [0]
        return text.withUnsafeMutableBufferPointer { body(UnsafePointer($0.baseAddress.unsafelyUnwrapped)) }
    }

    /// A system call on a name.
    @discardableResult
    static func call(_ operation: String, _ name: Name, _ body: (UnsafePointer<CChar>) -> Int) throws(SystemError) -> Int {
        try systemCall(operation, shown(name)) { withPath(name, body) }
    }
}
